"""Background writer: one thread that runs one job at a time, and of the waiting jobs only the newest."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

Job = Callable[[], None]


class BackgroundWriter:
    """A thread that runs the latest job; a context manager, which ends when everything is written.

    A waiting job is replaced by the next one, so each must write everything, as a checkpoint does. An exception of a
    job is raised by the next call.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.waiting: Job | None = None
        self.busy = self.closed = False
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._serve, name="writer", daemon=True)
        self.thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self.thread.join()
        if kind is None:
            self._raise()

    def put(self, job: Job) -> None:
        """Run a job in the background, instead of the one that waits."""
        with self.changed:
            self._raise()
            self.waiting = job
            self.changed.notify_all()

    def wait(self) -> None:
        """Block until no job is left."""
        with self.changed:
            self.changed.wait_for(lambda: self.waiting is None and not self.busy)
            self._raise()

    def _raise(self) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error

    def _serve(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting is not None or self.closed)
                job, self.waiting = self.waiting, None
                if job is None:
                    return
                self.busy = True
            try:
                job()
            except BaseException as error:
                self.error = error
            with self.changed:
                self.busy = False
                self.changed.notify_all()
