"""``run.json`` and ``run.log`` beside what a command wrote: the same for every command.

Both are made to be handed on: of a path outside the root only the last part is written, unless ``--full-paths`` asks
for all of it.
"""

from __future__ import annotations

import logging
import platform
import re
import shlex
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TextIO

import autoseg
from autoseg.core.errors import AutosegError, CasesError, PlanError, StorageError
from autoseg.core.image_files import list_files
from autoseg.core.records import CaseRun, RunRecord
from autoseg.core.store import Store, check_ours, hash_settings, read_record, sha256, write_record

RUN = "run.json"
MODEL_FILES = ("plan.json", "best.json", "postprocessing.json", "model.safetensors")
LIBRARIES = ("torch", "numpy", "SimpleITK", "openvino")
ROOT, ELSEWHERE = "<root>", "..."
LINE = "%(asctime)s %(levelname)s %(message)s"

# Two or more parts after a slash or a drive that no word, address or shortened path precedes.
_PART = r"[^\s\\/:*?\"'<>|,;()]+"
_ABSOLUTE = re.compile(rf"(?<![\w/.>])(?:[A-Za-z]:)?(?:[\\/]{_PART})+[\\/]({_PART})")

logger = logging.getLogger("autoseg")
_current: ContextVar[Run | None] = ContextVar("run", default=None)


class Run:
    """Facts of a running command, which become its ``run.json``.

    Attributes:
        exit_code: of a command that ends without an error and is not stopped.

    Args:
        path: of the record; the log beside it has the same name and the ending ``.log``. None for neither.
        words: the command and its arguments.
        hide: shortens the paths in a text.
    """

    def __init__(self, path: Path | None, words: Sequence[str], hide: Callable[[str], str]) -> None:
        self.path, self.hide = path, lambda text: _escape(hide(text))
        self.log, self.has_begun = _RunLog(self.hide), False
        self.began = time.monotonic()
        self.cases: dict[str, CaseRun] = {}
        self.model: dict[str, str] = {}
        self.inputs: dict[str, str] = {}
        self.device: str | None = None
        self.exit_code = 0
        self.command = hide(shlex.join(words))
        self.started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self.previous: RunRecord | None = None
        self.log.note(f"autoseg {autoseg.__version__}: {self.command}")

    def begin(self) -> None:
        """Write the record of a command that runs, and open its log.

        Raises:
            UsageError: a file of that name is not autoseg's.
            StorageError: the record cannot be written.
        """
        if self.path is None or self.has_begun:
            return
        log_path = self.path.with_suffix(".log")
        check_ours(self.path, '"command": "autoseg')
        check_ours(log_path, "autoseg")
        with suppress(PlanError):
            self.previous = read_record(RunRecord, self.path, advice="")
        self._write(None, None)
        with suppress(OSError):
            self.log.open(log_path)
        self.has_begun = True

    def end(self, exit_code: int, error: str | None) -> None:
        """Complete the record, and close the log; the command's own error, or its result, counts more than theirs."""
        self.log.note(f"exit code {exit_code}{'' if error is None else f': {error}'}")
        self.log.close()
        if self.has_begun:
            with suppress(StorageError):
                self._write(exit_code, error)

    def note_case(self, name: str, failure: str | None, seconds: float | None) -> None:
        """Add a case that was done or failed; of several passes over it the times add up, and a failure stays."""
        name = _escape(name)
        before = self.cases.get(name)
        total = (seconds or 0.0) + (before.seconds or 0.0 if before is not None else 0.0)
        reason = failure if before is None or before.reason is None else before.reason
        self.cases[name] = CaseRun(
            status="done" if reason is None else "failed",
            seconds=None if seconds is None else round(total, 3),
            reason=None if reason is None else self.hide(reason),
        )

    def keep_case(self, name: str) -> None:
        """Add a case that a previous run made, with its time and its inputs as far as that run's record has them."""
        name = _escape(name)
        before = None if self.previous is None else self.previous.cases.get(name)
        self.cases[name] = CaseRun(status="kept", seconds=None if before is None else before.seconds)
        inputs = {} if self.previous is None else self.previous.inputs
        self.inputs |= {key: value for key, value in inputs.items() if key.startswith(f"{name}/")}

    def add_model(self, folder: Path, folds: Iterable[str] | None = None) -> None:
        """Add plans and weights of a model folder by their content.

        Args:
            folds: names of the folds whose weights count; None for all.
        """
        every = {path.name for path in folder.glob("**/fold_*")}
        unused = set() if folds is None else every - {f"fold_{fold}" for fold in folds}
        for pattern in MODEL_FILES:
            for path in sorted(folder.glob(f"**/{pattern}")):
                if path.parent.name not in unused:
                    self.model[f"{folder.name}/{path.relative_to(folder).as_posix()}"] = f"sha256:{sha256(path)}"

    def add_files(self, name: str, paths: Iterable[Path]) -> None:
        """Add many input files by their names and sizes alone, which takes no time."""
        facts = []
        for path in paths:
            with suppress(AutosegError, OSError):  # reading it reports the reason
                facts += [(file.name, file.stat().st_size) for file in list_files(path)]
        self.inputs[name] = f"files:{hash_settings(sorted(facts))}"

    def add_content(self, path: Path, *, case: str | None = None) -> None:
        """Add an input file, or each slice of a series, by its content.

        Args:
            case: that it belongs to.
        """
        with suppress(AutosegError, OSError):
            for file in list_files(path):
                name = file.name if case is None else f"{case}/{file.name}"
                self.inputs[_escape(name)] = f"sha256:{sha256(file)}"

    def _write(self, exit_code: int | None, error: str | None) -> None:
        assert self.path is not None
        record = RunRecord(
            command=self.command,
            started=self.started,
            elapsed_s=round(time.monotonic() - self.began, 2),
            exit_code=exit_code,
            error=None if error is None else self.hide(error),
            device=self.device,
            versions=list_versions(),
            model=self.model,
            inputs=self.inputs,
            cases=dict(sorted(self.cases.items())),
        )
        write_record(self.path, record)


@contextmanager
def recorded(
    store: Store,
    path: Path | None,
    words: Sequence[str],
    *,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[Run]:
    """Keep a record and a log of what the block does; they reach the disk with ``run.begin()``, so that a command which
    is refused before it writes nothing.

    Args:
        store: its root is shortened in every path, unless it asks for full ones.
        path: of the record; None keeps none (a dry run, a process that does not lead).
        words: the command and its arguments.
        should_stop: the stop signal of the command, for its exit code.
    """
    run = Run(path, words, str if store.full_paths else _PathShortener(store.root, words))
    token = _current.set(run)
    code, error = 1, None
    try:
        with _logging_to(run.log):
            yield run
        code = _stop_code(should_stop) or run.exit_code
    except AutosegError as problem:
        if isinstance(problem, CasesError) and path is not None and path.parent.is_dir():
            run.begin()  # the others are done
        for name, reason in problem.failures.items() if isinstance(problem, CasesError) else ():
            if name not in run.cases:
                run.note_case(name, reason, None)
        code, error = 2, str(problem)
        raise
    except KeyboardInterrupt:
        code, error = 128 + signal.SIGINT, "stopped"
        raise
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
        raise
    finally:
        _current.reset(token)
        run.end(code, error)


def note_case(name: str, failure: str | None, seconds: float | None) -> None:
    """Add a case to the record of the running command, if it keeps one."""
    run = _current.get()
    if run is not None:
        run.note_case(name, failure, seconds)


def _escape(text: str) -> str:
    """The text with names that are not UTF-8 escaped, so that it can be written."""
    return text.encode("utf-8", "backslashreplace").decode()


def list_versions() -> dict[str, str]:
    """Versions of autoseg, Python and the main libraries that are installed; none is imported."""
    versions = {"autoseg": autoseg.__version__, "python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def _stop_code(should_stop: Callable[[], bool] | None) -> int:
    """0, or the exit code of the signal that stopped the command."""
    if should_stop is None or not should_stop():
        return 0
    return 128 + int(getattr(should_stop, "signal", None) or signal.SIGINT)


class _PathShortener:
    """Shortens the absolute paths in a text: below the root to ``<root>/...``, others to ``.../name``.

    Args:
        root: of the command.
        words: its arguments, whose paths may hold blanks.
    """

    def __init__(self, root: Path, words: Sequence[str]) -> None:
        roots = {str(root), str(root.resolve())} - {"/", "."}
        places = [Path(word) for word in words if Path(word).is_absolute()]
        places += [Path(word).resolve() for word in words if "/" in word]
        replacements = {str(path): f"{ELSEWHERE}/{path.name}" for path in places if len(path.parts) > 2}
        replacements |= {str(folder): ELSEWHERE for folder in (Path.home(), Path.cwd()) if len(folder.parts) > 1}
        replacements |= {folder: ROOT for folder in roots if Path(folder).is_absolute()}
        longest_first = sorted(replacements.items(), key=lambda pair: (pair[1] != ROOT, -len(pair[0])))
        self.replacements = [(re.compile(rf"{re.escape(full)}(?![\w-])"), short) for full, short in longest_first]

    def __call__(self, text: str) -> str:
        """The text with short paths."""
        for full, short in self.replacements:
            text = full.sub(short, text)
        return _ABSOLUTE.sub(rf"{ELSEWHERE}/\1", text)


class _RunLog(logging.Handler):
    """A log with short paths that is appended to a file once that is open; a full disk ends the log, not the command.

    Args:
        hide: shortens the paths in a text.
    """

    def __init__(self, hide: Callable[[str], str]) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(LINE))
        self.hide = hide
        self.lines: list[str] = []
        self.file: TextIO | None = None

    def open(self, path: Path) -> None:
        """Write what was logged so far, and everything from now on."""
        self.file = path.open("a", encoding="utf-8")
        self.file.write("".join(self.lines))
        self.file.flush()

    def note(self, text: str) -> None:
        """Add a line to this log alone."""
        self.handle(logging.LogRecord(logger.name, logging.INFO, "", 0, text, None, None))

    def emit(self, record: logging.LogRecord) -> None:
        """Add a line."""
        line = self.hide(self.format(record)) + "\n"
        if self.file is None:
            self.lines.append(line)
            return
        with suppress(OSError):
            self.file.write(line)
            self.file.flush()

    def close(self) -> None:
        """Close the file."""
        super().close()
        if self.file is not None:
            with suppress(OSError):
                self.file.close()


class _PassOn(logging.Handler):
    """Hands records to the loggers above, as before the log was opened."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hand one record on."""
        if logger.parent is not None:
            logger.parent.callHandlers(record)


@contextmanager
def _logging_to(log: _RunLog) -> Iterator[None]:
    """Let the package log to a further log, also what is below the level that the program shows."""
    handlers: list[logging.Handler] = [log]
    level, propagate = logger.level, logger.propagate
    if logger.getEffectiveLevel() > logging.INFO:
        handlers.append(_PassOn(logger.getEffectiveLevel()))
        logger.propagate = False
        logger.setLevel(logging.INFO)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
