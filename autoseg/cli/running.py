"""Run one command: where the root is, what ends it and with which exit code.

Exit codes: 0 done; 2 something the user can put right, told in one sentence; 130 or 143 stopped by a signal, to be
continued by the same command. A traceback is a bug of autoseg's.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from autoseg.core.errors import AutosegError
from autoseg.terminal import Terminal

if TYPE_CHECKING:
    from autoseg.cli.arguments import Arguments
    from autoseg.core.store import Store


def run_command(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    act: Callable[[Arguments, Store, Terminal], None],
) -> NoReturn:
    """Parse, act below the root, and end with an exit code; a user's error is one sentence."""
    args = parser.parse_intermixed_args(argv)
    terminal = Terminal(quiet=args.quiet)
    try:
        from autoseg.core.store import Store

        act(args, Store(args.root or Path(os.environ.get("AUTOSEG_ROOT") or ".")), terminal)
    except AutosegError as error:
        _fail(parser, terminal, str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        _fail(parser, terminal, f"{error.filename or 'a file'} could not be written ({error.strerror})")
    except KeyboardInterrupt:
        terminal.clear()
        sys.stderr.write(f"{parser.prog}: stopped; the same command goes on where this one was\n")
        sys.exit(128 + signal.SIGINT)
    sys.exit(0)


def _fail(parser: argparse.ArgumentParser, terminal: Terminal, sentence: str) -> NoReturn:
    terminal.clear()
    sys.stderr.write(f"{parser.prog}: error: {sentence}\n")
    sys.exit(2)


def show(args: Arguments, text: str) -> None:
    """Text for the user on stdout, unless ``--quiet``."""
    if not args.quiet:
        sys.stdout.write(text)


class Stop:
    """Asked between steps whether to stop; the first signal lets the step finish, the second ends at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._notice)

    def _notice(self, number: int, frame: object) -> None:
        self.signal = number
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)

    def __call__(self) -> bool:
        """Whether a signal came."""
        return self.signal is not None
