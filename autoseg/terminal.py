"""Output of a command: log lines, and one line of progress where there is a terminal or a notebook."""

from __future__ import annotations

import importlib
import logging
import math
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

from autoseg.core.text import format_seconds

LIVE_EVERY_S = 0.1
LINE_EVERY_S = 15.0
LINE_SHARE = 0.05  # of the time since the task began, so that hours of training write tens of lines


class ProgressLine:
    """A progress callback: one line that is replaced, else a log line now and then, the rarer the longer it takes.

    Args:
        draw: replaces the line by another one, or by nothing; None where none can be replaced.
    """

    def __init__(self, draw: Callable[[str], None] | None) -> None:
        self.draw = draw
        self.task = ""
        self.started = self.shown = time.monotonic()
        self.first = 0

    def __call__(self, done: int, total: int, what: str) -> None:
        """Show how far a task is.

        Args:
            what: the task, and after its first comma what is known of the last step.
        """
        now = time.monotonic()
        task, _, detail = what.partition(", ")
        if task != self.task:
            self.task, self.started, self.first = task, now, done
            self.shown = now if self.draw is None else -math.inf
        wait_s = max(LINE_EVERY_S, LINE_SHARE * (now - self.started)) if self.draw is None else LIVE_EVERY_S
        if now - self.shown < wait_s and done < total:
            return
        self.shown = now
        share = f"{100 * done // total} %" if total else ""
        facts = [f"{task}: {done:,} of {total:,}", share, detail, self._eta(now, done, total)]
        line = ", ".join(fact for fact in facts if fact)
        if self.draw is not None:
            self.draw(line if done < total else "")
        elif done < total or now - self.started > LINE_EVERY_S:
            logging.getLogger("autoseg").info("%s", line)

    def _eta(self, now: float, done: int, total: int) -> str:
        finished = done - self.first
        if finished <= 0 or done >= total:
            return ""
        return f"{format_seconds((now - self.started) / finished * (total - done))} left"


class Terminal:
    """Log lines and progress on standard error; on a terminal, or in a notebook that runs the command, as a live line.

    Args:
        quiet: warnings and errors only.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.live = sys.stderr.isatty() and not quiet
        self.drawn = 0
        self.line = ProgressLine(self._draw if self.live else None)
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
        """A progress callback, unless quiet; arguments as of ``ProgressLine``."""
        if not self.quiet:
            self.line(done, total, what)

    def show(self, text: str) -> None:
        """Write a result to standard output, unless quiet."""
        self.clear()
        if not self.quiet:
            sys.stdout.write(text)

    def _draw(self, line: str) -> None:
        """Replace the live line; it is cut where the screen ends, because a wrapped line cannot be removed.

        Blanks remove the previous one: notebooks show the codes that would.
        """
        if self.live:
            line = line[: shutil.get_terminal_size().columns - 1]
            sys.stderr.write(f"\r{line:<{self.drawn}}" + ("" if line else "\r"))
            sys.stderr.flush()
            self.drawn = len(line)

    def clear(self) -> None:
        """Remove the live line before something else is written."""
        if self.drawn:
            self._draw("")


def notebook_line() -> Callable[[str], None] | None:
    """Function that replaces the one line of progress below a notebook's cell; None outside of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if not hasattr(shell, "kernel"):
        return None
    display, shown = importlib.import_module("IPython.display").display, list[Any]()

    def draw(line: str) -> None:
        content = {"text/plain": line}
        if shown:
            shown[0].update(content, raw=True)
        elif line:
            shown.append(display(content, raw=True, display_id=True))

    return draw


class _LogFormatter(logging.Formatter):
    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self.terminal = terminal

    def format(self, record: logging.LogRecord) -> str:
        """Time, the level where it matters, the message; a traceback only where one was logged."""
        self.terminal.clear()
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        return f"{self.formatTime(record, '%H:%M:%S')} {level}{record.getMessage()}"
