"""Terminal output of a command: log lines, and one line of progress if there is a terminal."""

from __future__ import annotations

import logging
import sys
import time

from autoseg.core.text import format_seconds

LINE_EVERY_S = 15.0


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
        root = logging.getLogger("autoseg")
        root.handlers = [handler]
        root.setLevel(logging.WARNING if quiet else logging.INFO)
        root.propagate = False

    def progress(self, done: int, total: int, what: str) -> None:
        """A progress callback: a live line on a terminal, else a log line every quarter of a minute."""
        now = time.monotonic()
        task = what.split(",", maxsplit=1)[0]
        if task != self.task:
            self.task, self.started, self.shown, self.first = task, now, now, done
        if self.quiet or (now - self.shown < (0.1 if self.live else LINE_EVERY_S) and done < total):
            return
        self.shown = now
        line = f"{what} {done}/{total}{self._eta(now, done, total)}"
        if self.live:
            sys.stderr.write("\r\x1b[K" + line if done < total else "\r\x1b[K")
            sys.stderr.flush()
        elif done < total or now - self.started > LINE_EVERY_S:
            logging.getLogger("autoseg").info("%s", line)

    def show(self, text: str) -> None:
        """Write a result to standard output, unless quiet."""
        if not self.quiet:
            sys.stdout.write(text)

    def clear(self) -> None:
        """Remove the live line before something else is written."""
        if self.live:
            sys.stderr.write("\r\x1b[K")

    def _eta(self, now: float, done: int, total: int) -> str:
        finished = done - self.first
        if finished <= 0 or done >= total:
            return ""
        return f", {format_seconds((now - self.started) / finished * (total - done))} left"


class _LogFormatter(logging.Formatter):
    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self.terminal = terminal

    def format(self, record: logging.LogRecord) -> str:
        """Time, the level where it matters, the message; a traceback only where one was logged."""
        self.terminal.clear()
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        return f"{self.formatTime(record, '%H:%M:%S')} {level}{record.getMessage()}"
