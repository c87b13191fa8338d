"""Run one command: root, environment, signals and exit codes.

Exit codes: 0 done; 2 an error that the user can correct, in one sentence; 130 or 143 stopped by a signal, and the same
command resumes. A traceback is a bug in autoseg.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from autoseg.cli.nnunet_words import explain_configuration
from autoseg.cli.parser import Parser, build_parser, parse
from autoseg.core.errors import AutosegError
from autoseg.options import Options
from autoseg.terminal import Terminal

if TYPE_CHECKING:
    from autoseg.core.store import Store


def no_extra(parser: Parser) -> None:
    """Add nothing."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command, called with its arguments.

    Attributes:
        name: after ``autoseg``, with hyphens.
        options: its record.
        title: a few words, for the list of commands.
        summary: one or two sentences.
        example: a whole command line.
        act: function of the store, the options and the terminal.
        extra: adds arguments that print something and stop.
    """

    name: str
    options: type[Options]
    title: str
    summary: str
    example: str
    act: Callable[[Store, Any, Terminal], None]
    extra: Callable[[Parser], None] = no_extra

    @property
    def script(self) -> str:
        """Name of the program that runs this command alone."""
        return f"autoseg_{self.name.replace('-', '_')}"

    def parser(self, prog: str | None = None) -> Parser:
        """The parser of its arguments."""
        parser = build_parser(prog or self.script, self.options, summary=self.summary, example=self.example)
        self.extra(parser)
        return parser

    def __call__(self, argv: Sequence[str] | None = None, *, prog: str | None = None) -> NoReturn:
        """Parse, act below the root, and end with an exit code; a user's error is one sentence.

        Args:
            argv: arguments; None for those of the process.
            prog: the command as it was typed, for messages.
        """
        parser = self.parser(prog)
        words = sys.argv[1:] if argv is None else list(argv)
        options, common = parse(parser, self.options, words)
        ranks = read_ranks()
        terminal = Terminal(quiet=common.quiet or (ranks is not None and ranks[0] > 0))  # only the first rank logs
        try:
            from autoseg.core.store import Store

            self.act(Store(common.root or default_root()), options, terminal)
        except AutosegError as error:
            terminal.clear()
            parser.refuse(f"{error}{explain_configuration(words, str(error))}")
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
                raise
            terminal.clear()
            parser.refuse(_describe_refusal(error))
        except KeyboardInterrupt:
            terminal.clear()
            sys.stderr.write(f"{parser.prog}: stopped; the same command resumes\n")
            sys.exit(128 + signal.SIGINT)
        sys.exit(0)


def _describe_refusal(error: OSError) -> str:
    """One sentence on a file that the disk refused to read or to write."""
    name = error.filename or "a file"
    if error.errno == errno.EACCES and Path(name).exists() and not os.access(name, os.R_OK):
        return f"{name} could not be read ({error.strerror}); make it readable"
    return f"{name} could not be written ({error.strerror})"


def default_root() -> Path:
    """$AUTOSEG_ROOT, else the current folder."""
    return Path(os.environ.get("AUTOSEG_ROOT") or ".")


RANK_VARIABLES = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
)  # of torchrun, and ours


def read_ranks() -> tuple[int, int, int, int] | None:
    """Rank, number of processes, both on this machine too, as the launcher set them; None without a launcher."""
    values = [os.environ.get(name) for name in RANK_VARIABLES]
    if not all(text is not None and text.isdigit() for text in values) or values[1] == "1":
        return None
    rank, world, local, neighbours = (int(text or 0) for text in values)
    return rank, world, local, neighbours


def read_attempt() -> int:
    """Number of restarts by torchrun; 0 if there were none or it is unknown."""
    count = os.environ.get("TORCHELASTIC_RESTART_COUNT") or "0"
    return int(count) if count.isdigit() else 0


def rank_variables(rank: int, world: int, port: int) -> dict[str, str]:
    """The environment of one of several processes on this machine, which connect at a port."""
    values = map(str, (rank, world, rank, world))
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return {**os.environ, **dict(zip(RANK_VARIABLES, values, strict=True)), **address}


def disable_telemetry() -> None:
    """Switch off the usage reports of experiment trackers, unless the user has set them."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


class StopSignal:
    """Stop request: the first signal lets the current step finish, the second ends the process.

    Args:
        with_parent: stop as well when the process that started this one has ended.
    """

    def __init__(self, *, with_parent: bool = False) -> None:
        self.signal: int | None = None
        self.parent = os.getppid() if with_parent else None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._notice)

    def _notice(self, number: int, frame: object) -> None:
        self.signal = number
        for handled in (signal.SIGINT, signal.SIGTERM):
            signal.signal(handled, signal.SIG_DFL)

    def __call__(self) -> bool:
        """Whether a signal was received, or the parent has ended."""
        return self.signal is not None or (self.parent is not None and os.getppid() != self.parent)

    def exit_if_stopped(self) -> None:
        """End the process with the signal's exit code, if one was received."""
        if self.signal is not None:
            sys.exit(128 + self.signal)
