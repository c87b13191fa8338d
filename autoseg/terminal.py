"""Terminal output of a command: log lines, and one line of progress if there is a terminal."""

from __future__ import annotations

import logging
import shutil
import sys
import time

from autoseg.core.text import format_seconds

LIVE_EVERY_S = 0.1
LINE_EVERY_S = 15.0
LINE_SHARE = 0.05  # of the time since the task began, so that hours of training write tens of lines


class Terminal:
    """Log lines and progress on standard error; control characters only where it is a terminal.

    Args:
        quiet: warnings and errors only.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.live = sys.stderr.isatty() and not quiet
        self.task = ""
        self.started = self.shown = time.monotonic()
        self.first = 0
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_LogFormatter(self))
        handler.setLevel(logging.WARNING if quiet else logging.INFO)  # a log file of the run holds more
        root = logging.getLogger("autoseg")
        root.handlers = [handler]
        root.setLevel(logging.INFO)
        root.propagate = False

    @property
    def width(self) -> int | None:
        """Columns of the screen that results go to; None where they go into a file or a pipe."""
        return shutil.get_terminal_size().columns if sys.stdout.isatty() else None

    def begin(self, command: str) -> None:
        """Show at once that the command runs: libraries take seconds to load."""
        self._draw(f"{command}: starting")

    def progress(self, done: int, total: int, what: str) -> None:
        """A progress callback: a live line on a terminal, else a log line now and then, the rarer the longer it takes.

        Args:
            what: the task, and after its first comma what is known of the last step.
        """
        now = time.monotonic()
        task, _, detail = what.partition(", ")
        if task != self.task:
            self.task, self.started, self.first = task, now, done
            self.shown = now - LIVE_EVERY_S if self.live else now
        wait_s = LIVE_EVERY_S if self.live else max(LINE_EVERY_S, LINE_SHARE * (now - self.started))
        if self.quiet or (now - self.shown < wait_s and done < total):
            return
        self.shown = now
        share = f"{100 * done // total} %" if total else ""
        facts = [f"{task}: {done:,} of {total:,}", share, detail, self._eta(now, done, total)]
        line = ", ".join(fact for fact in facts if fact)
        if self.live:
            self._draw(line if done < total else "")
        elif done < total or now - self.started > LINE_EVERY_S:
            logging.getLogger("autoseg").info("%s", line)

    def show(self, text: str) -> None:
        """Write a result to standard output, unless quiet."""
        self.clear()
        if not self.quiet:
            sys.stdout.write(text)

    def _draw(self, line: str) -> None:
        """Replace the live line; it is cut where the screen ends, because a wrapped line cannot be removed."""
        if self.live:
            sys.stderr.write("\r\x1b[K" + line[: shutil.get_terminal_size().columns - 1])
            sys.stderr.flush()

    def clear(self) -> None:
        """Remove the live line before something else is written."""
        if self.live:
            sys.stderr.write("\r\x1b[K")

    def _eta(self, now: float, done: int, total: int) -> str:
        finished = done - self.first
        if finished <= 0 or done >= total:
            return ""
        return f"{format_seconds((now - self.started) / finished * (total - done))} left"


class _LogFormatter(logging.Formatter):
    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self.terminal = terminal

    def format(self, record: logging.LogRecord) -> str:
        """Time, the level where it matters, the message; a traceback only where one was logged."""
        self.terminal.clear()
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        return f"{self.formatTime(record, '%H:%M:%S')} {level}{record.getMessage()}"
