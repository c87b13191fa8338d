"""Writing beside the work: one thread, one thing at a time, and of what waits only the newest."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

Job = Callable[[], None]


class BackgroundWriter:
    """A thread that runs the job it was given last; a context manager, which ends when all is written.

    A job that has not begun when the next one comes is dropped: each must write everything, as a checkpoint does.
    What a job raises is raised again by the next call.
    """

    def __init__(self) -> None:
        self.turn = threading.Condition()
        self.waiting: Job | None = None
        self.busy = self.closed = False
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._serve, name="writer", daemon=True)
        self.thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self.turn:
            self.closed = True
            self.turn.notify_all()
        self.thread.join()
        if kind is None:
            self._raise()

    def put(self, job: Job) -> None:
        """Run a job soon, instead of the one that waits."""
        with self.turn:
            self._raise()
            self.waiting = job
            self.turn.notify_all()

    def wait(self) -> None:
        """Until nothing is left to do."""
        with self.turn:
            self.turn.wait_for(lambda: self.waiting is None and not self.busy)
            self._raise()

    def _raise(self) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error

    def _serve(self) -> None:
        while True:
            with self.turn:
                self.turn.wait_for(lambda: self.waiting is not None or self.closed)
                job, self.waiting = self.waiting, None
                if job is None:
                    return
                self.busy = True
            try:
                job()
            except BaseException as error:
                self.error = error
            with self.turn:
                self.busy = False
                self.turn.notify_all()
