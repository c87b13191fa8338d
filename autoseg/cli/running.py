"""Run one command: root, environment, signals and exit codes.

Exit codes: 0 done; 1 a line of ``autoseg_verify`` failed; 2 an error that the user can correct, in one sentence; 130 or
143 stopped by a signal, and the same command resumes. A traceback is a bug in autoseg.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from autoseg.cli.nnunet_words import explain_configuration
from autoseg.cli.parser import Parser, build_parser, parse
from autoseg.core.errors import AutosegError, MemoryShortageError, is_memory_shortage
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
        least_gb: address space (1e9 bytes) for its libraries and the smallest work; torch and its threads take 1.3.
        extra: adds arguments that print something and stop.
    """

    name: str
    options: type[Options]
    title: str
    summary: str
    example: str
    act: Callable[[Store, Any, Terminal], None]
    least_gb: float = 2.0
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
        terminal.begin(parser.prog)
        try:
            from autoseg.core.store import Store

            self._check_address_space()
            self.act(Store(common.root or default_root(), full_paths=common.full_paths), options, terminal)
        except AutosegError as error:
            terminal.clear()
            parser.refuse(f"{error}{explain_configuration(words, str(error))}")
        except (OSError, MemoryError, RuntimeError, ImportError, SystemError) as error:
            sentence = _describe_refusal(error)
            if sentence is None:
                raise
            terminal.clear()
            parser.refuse(sentence)
        except KeyboardInterrupt:
            terminal.clear()
            sys.stderr.write(f"{parser.prog}: stopped; the same command resumes\n")
            sys.exit(128 + signal.SIGINT)
        sys.exit(0)

    def _check_address_space(self) -> None:
        """Refuse a limit of the address space in which the libraries cannot be loaded: they end the process.

        Raises:
            MemoryShortageError: it is below what the command needs before it reads anything.
        """
        from autoseg.core.parallel import address_limit_bytes

        limit = address_limit_bytes()
        if limit is not None and limit < self.least_gb * 1e9:
            raise MemoryShortageError(
                f"this process may use {limit / 1e9:.1f} GB of address space (ulimit -v), and the libraries of this "
                f"command need {self.least_gb:g} GB; raise that limit"
            )


def _describe_refusal(error: Exception) -> str | None:
    """One sentence on memory that ran out, or on a file that the disk refused; None for a bug."""
    if is_memory_shortage(error):
        from autoseg.core.parallel import describe_memory_shortage

        return f"{describe_memory_shortage()}, and run the same command again"
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
        return None
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


STEP_S = 60.0  # within which a first signal ends the process, where no step ends
SAME_S = 0.3  # within which a signal that comes twice is one, as where it is sent to a process and to its group


class StopSignal:
    """Stop request: the first signal lets the current step finish, the second ends the process.

    Python's own handlers run between two calls of a library, and a step may be one call of minutes. A thread of its own
    reads the signals as they come: it ends the process at the second, and where a minute after the first nobody has
    asked for a stop. What is on disk then is the last checkpoint; every file is whole or absent.

    Args:
        with_parent: stop as well when the process that started this one has ended.
    """

    _wakeup: ClassVar[int | None] = None  # where signals are written to; a later StopSignal ends the thread of this one

    def __init__(self, *, with_parent: bool = False) -> None:
        self.signal: int | None = None
        self.is_noticed = False
        self.parent = os.getppid() if with_parent else None
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        if StopSignal._wakeup is not None:
            os.close(StopSignal._wakeup)
        StopSignal._wakeup = writer
        threading.Thread(target=self._watch, args=(reader,), name="signals", daemon=True).start()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: object) -> None:
        self.signal = number
        for handled in (signal.SIGINT, signal.SIGTERM):
            signal.signal(handled, signal.SIG_DFL)

    def _watch(self, reader: int) -> None:
        with os.fdopen(reader, "rb", buffering=0) as signals:
            first = _next_stop(signals)
            if first is None:
                return
            time.sleep(SAME_S)
            while select.select([signals], [], [], 0)[0] and signals.read(1):
                pass
            second, reason = None, f"no step ended within {STEP_S:.0f} s"
            if select.select([signals], [], [], STEP_S)[0] or self.is_noticed:
                second, reason = _next_stop(signals), "stopped at once"
                if second is None:
                    return
            sys.stderr.write(f"{reason}; the same command resumes from the last checkpoint\n")
            os._exit(128 + (second or first))

    def __call__(self) -> bool:
        """Whether a signal was received, or the parent has ended."""
        self.is_noticed = self.signal is not None
        return self.is_noticed or (self.parent is not None and os.getppid() != self.parent)

    def exit_if_stopped(self) -> None:
        """End the process with the signal's exit code, if one was received."""
        if self.signal is not None:
            sys.exit(128 + self.signal)


def _next_stop(signals: FileIO) -> int | None:
    """The next signal that stops; None where no further one is sent here."""
    while byte := signals.read(1):
        if byte[0] in (signal.SIGINT, signal.SIGTERM):
            return byte[0]
    return None
