"""Cases in parallel processes: a worker that dies is reported with its case, the others continue, nothing hangs."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import psutil

from autoseg.core.errors import AutosegError, CasesError, is_memory_shortage
from autoseg.core.runs import note_case

log = logging.getLogger(__name__)
A = TypeVar("A")
T = TypeVar("T")
Progress = Callable[[int, int, str], None]

WORKER_BYTES = 2**28  # a process with its libraries, before it reads anything


def no_progress(done: int, total: int, what: str) -> None:
    """A progress callback that shows nothing."""


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[T]):
    """Result of one item: a value, or one sentence with the reason why there is none; and the seconds it took."""

    name: str
    value: T | None = None
    failure: str | None = None
    is_bug: bool = False
    trace: str = ""
    seconds: float = 0.0


def count_workers(items: int, bytes_per_worker: int, *, cores: int | None = None) -> int:
    """Number of processes that free memory and cores allow; at least 1, at most one per item."""
    usable = cores or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores or os.cpu_count() or 1
    fitting = int(free_memory_bytes() * 0.8 // max(bytes_per_worker, 1))
    return max(1, min(items, usable, fitting))


def free_memory_bytes(groups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """Memory that can still be allocated: free memory of the machine, or less where a limit is set.

    The limit may be that of a container or a job, or of this process (``ulimit -v``).

    Args:
        groups: where Linux shows its control groups (version 2).
        membership: the file that names the group of this process.
    """
    free = int(psutil.virtual_memory().available)
    limit = address_limit_bytes()
    if limit is not None:
        free = min(free, limit - psutil.Process().memory_info().vms)
    with contextlib.suppress(OSError, ValueError):
        line = next((line for line in membership.read_text().splitlines() if line.startswith("0::/")), "0::/")
        group = groups / line.removeprefix("0::/")
        for level in (group, *group.parents):  # a limit of any level holds
            if level.is_relative_to(groups):
                free = min(free, _left_in_group(level, free))
    return max(free, 0)


def address_limit_bytes() -> int | None:
    """The limit of this process's address space, as ``ulimit -v`` sets it; None without one."""
    try:
        import resource
    except ImportError:  # no such limit on this system
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def describe_memory_shortage() -> str:
    """One clause on memory that ran out, and the remedy."""
    limit = address_limit_bytes()
    if limit is None:
        return "the machine ran out of memory; close other programs"
    return f"memory ran out, of which this process may use {limit / 1e9:.1f} GB; raise that limit (ulimit -v)"


def _left_in_group(group: Path, otherwise: int) -> int:
    """Bytes below a control group's limit; cached files do not count. ``otherwise`` without a limit."""
    limit = group / "memory.max"
    text = limit.read_text().strip() if limit.exists() else "max"
    if text == "max":
        return otherwise
    stats = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return int(text) - int((group / "memory.current").read_text()) + int(stats.get("inactive_file", 0))


def map_cases(function: Callable[[Any], T], items: Iterable[tuple[str, Any]], *, workers: int) -> Iterator[Outcome[T]]:
    """Call ``function(argument)`` for every (name, argument) and yield outcomes as they come.

    One worker runs in this process, one case after the other; more run in processes of their own.

    Args:
        function: importable by name; its argument and value are pickled.
        items: (case id, argument).
        workers: processes.
    """
    if workers <= 1:
        for name, argument in items:
            yield _run_one(function, name, argument)
        return
    pool = _Pool(function, workers)
    try:
        yield from pool.run(iter(items))
    finally:
        pool.close()


def _run_one(function: Callable[[Any], T], name: str, argument: Any) -> Outcome[T]:
    began = time.perf_counter()
    outcome = _try_one(function, name, argument)
    return replace(outcome, seconds=time.perf_counter() - began)


def _try_one(function: Callable[[Any], T], name: str, argument: Any) -> Outcome[T]:
    try:
        return Outcome(name=name, value=function(argument))
    except AutosegError as error:
        return Outcome(name=name, failure=str(error))
    except Exception as error:
        if is_memory_shortage(error):
            return Outcome(name=name, failure=f"case {name}: {describe_memory_shortage()}, or use fewer workers")
        failure = f"case {name}: {type(error).__name__}: {error}"
        return Outcome(name=name, failure=failure, is_bug=True, trace=traceback.format_exc())


def _serve(connection: Connection, function: Callable[[Any], Any]) -> None:
    """Loop of a worker: receive a case, send its outcome, until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            name, argument = connection.recv()
            connection.send(_run_one(function, name, argument))


class _Pool:
    """Workers with one pipe each, so that a dead one is recognised by its closed pipe."""

    def __init__(self, function: Callable[[Any], Any], workers: int) -> None:
        self.function = function
        # A fork server is started before any thread pool, so children inherit no lock that is held.
        self.context: Any = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
        self.workers = workers
        self.running: dict[Connection, tuple[Any, str]] = {}

    def _start(self) -> tuple[Any, Connection]:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=_serve, args=(theirs, self.function), daemon=True)
        process.start()
        theirs.close()
        return process, ours

    def run(self, items: Iterator[tuple[str, Any]]) -> Iterator[Outcome[Any]]:
        """Keep every worker busy until the items end."""
        for _ in range(self.workers):
            self._give(items, None)
        while self.running:
            for connection in wait(list(self.running)):
                assert isinstance(connection, Connection)
                process, name = self.running.pop(connection)
                try:
                    outcome = connection.recv()
                except (EOFError, ConnectionResetError):
                    process.join()
                    outcome = Outcome(name=name, failure=_death(name, process.exitcode))
                    self._give(items, None)
                else:
                    self._give(items, (process, connection))
                yield outcome

    def _give(self, items: Iterator[tuple[str, Any]], worker: tuple[Any, Connection] | None) -> None:
        item = next(items, None)
        if item is None:
            if worker is not None:
                worker[1].close()
            return
        process, connection = worker or self._start()
        with contextlib.suppress(BrokenPipeError):  # a worker that died idle is also detected, by its closed pipe
            connection.send(item)
        self.running[connection] = (process, item[0])

    def close(self) -> None:
        """End workers that are still busy (an interrupt, an error in the caller)."""
        for connection, (process, _) in self.running.items():
            connection.close()
            process.terminate()


def _death(name: str, exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        number = -exitcode
        cause = f"killed by signal {number} ({signal.Signals(number).name})"
        hint = "; the machine probably ran out of memory: use fewer workers" if number == signal.SIGKILL else ""
        return f"case {name}: its worker process was {cause}{hint}"
    return f"case {name}: its worker process ended with exit code {exitcode}"


def run_cases(
    function: Callable[[A], T],
    tasks: Sequence[tuple[str, A]],
    workers: int,
    keep: Callable[[str, T], None],
    doing: str,
    progress: Progress,
    *,
    others: str = "the others are done",
) -> None:
    """Call a function for every case in parallel, store each value as it comes, and raise at the end with all failures.

    Args:
        function: importable by name; its argument and value are pickled.
        tasks: (case id, argument).
        workers: processes; at most one per case.
        keep: called with a case id and its value.
        doing: for progress and messages.
        progress: called after each case.
        others: clause on the other cases, for the message.

    Raises:
        CasesError: some cases failed.
    """
    failures: dict[str, str] = {}
    progress(0, len(tasks), doing)
    for done, outcome in enumerate(map_cases(function, tasks, workers=min(workers, len(tasks))), start=1):
        if outcome.failure is None:
            keep(outcome.name, cast(T, outcome.value))
        else:
            failures[outcome.name] = outcome.failure
        note_case(outcome.name, outcome.failure, outcome.seconds)
        if outcome.is_bug:
            log.error("case %s:\n%s", outcome.name, outcome.trace)
        progress(done, len(tasks), doing)
    if failures:
        raise CasesError(failures, of=len(tasks), doing=doing, others=others)
