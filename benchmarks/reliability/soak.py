"""Kills, full disks and two commands at once: nothing is lost, nothing is different, nothing is left over.

Run from the root of the repository, on Linux:

    .venv/bin/python benchmarks/reliability/soak.py soak --minutes 60

A dataset of five cases goes once, undisturbed, through every command; the folder before and after each command is
kept. A trial copies the folder before a command, disturbs the command, runs it again until it finishes, and compares
the folder with the one after the undisturbed command. Commands run in forks of one process that has imported autoseg
and computed nothing, so that a trial does not pay for importing torch; what runs in a fork is the command itself,
with its exit code and its output.
"""

from __future__ import annotations

import argparse
import atexit
import hashlib
import importlib
import io
import itertools
import json
import os
import pkgutil
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: a fork must not inherit threads

import numpy as np
import psutil
import torch

import autoseg
from autoseg.cli import main as run_autoseg
from autoseg.core.images import write_voxels
from autoseg.core.records import Grid

SHAPE = (20, 28, 24)
CASES = 5
LONGEST_S = 600.0  # of one command, before it counts as hanging
SHORT_S = 0.3  # processor time of a command below which moments cannot be met, only steps
GRACE_S = 15.0  # for the processes of a killed command to end
LENGTH = "--epochs 2 --steps-per-epoch 1"
COMMANDS = {
    "import": "import nnunet source -d Tiny --copy",
    "plan": "plan -d Tiny --preset pocket --workers 1",
    "train": f"train -d Tiny -c 3d -f 0 {LENGTH}",
    "predict": "predict -i scans -o masks",
    "evaluate": "evaluate -p masks -r truth -o scores --workers 1",
    "run": f"run -d Tiny -c 3d 2d -f 0 1 {LENGTH}",
    "pretrain": f"pretrain -d Tiny -c 2d --workers 1 {LENGTH}",
    "subset": "subset -d Tiny -n 2 3",
    "slice": "slice -d Tiny --into Slices --workers 1",
    "compare": "compare root/autoseg_results/Tiny/2d/fold_0 root/autoseg_results/Tiny/3d/fold_0 -o comparison",
    "report": "report -d Tiny",
}
# Files of the user, in the places where autoseg writes: none may be lost or changed.
USERS = (
    "notes.txt",
    "root/autoseg_raw/Other/dataset.json",
    "root/autoseg_preprocessed/.keep",
    "root/autoseg_results/notes.txt",
    "root/autoseg_results/Tiny/3d/fold_0/remarks.txt",
    "masks/.own.txt",
    "scores/mine.csv",
)
KEYS = {"key", "concluded"}  # hashes of times of files
RECORDS = ("progress.png", "run.json", "run.log")  # ends of names of files that draw or tell of seconds
COLUMNS = ("trials", "disturbed", "lost", "different", "left_over", "unfinished", "false_success", "tracebacks")


@dataclass(kw_only=True)
class Result:
    """How a command ended.

    Attributes:
        code: exit code, or minus the signal.
        output: of both streams.
        seconds: of processor time.
        steps: that changed files.
        hung: ended for taking too long.
    """

    code: int
    output: str
    seconds: float
    steps: int = 0
    hung: bool = False

    @property
    def has_traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.output

    @property
    def errors(self) -> list[str]:
        return [line for line in self.output.splitlines() if ": error: " in line]


class Soak:
    """The work folder, the reference and the tally.

    Args:
        folder: of this run; ``work`` in it is where commands run.
        seed: of all choices.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder.absolute(), seed
        self.work, self.log = self.folder / "work", self.folder / "output.txt"
        self.seconds: dict[str, float] = {}
        self.steps: dict[str, int] = {}
        self.growth: dict[str, tuple[int, int]] = {}
        self.tally: dict[tuple[str, str], dict[str, int]] = {}
        self.refusals: set[str] = set()  # of two commands at once
        self.is_mounted = False

    @contextmanager
    def small_disk(self) -> Iterator[None]:
        """A file system in memory as the work folder, if the system lets us mount one."""
        self.work.mkdir(exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", "size=1g,nr_inodes=100k", "tmpfs", str(self.work)]
        self.is_mounted = subprocess.run(mount, check=False).returncode == 0
        if not self.is_mounted:
            print("no file system could be mounted: the part full_disk is left out", flush=True)
        try:
            yield
        finally:
            if self.is_mounted:
                subprocess.run(["umount", "--lazy", str(self.work)], check=False)

    def used(self) -> tuple[int, int]:
        """Bytes and files in the work folder's file system."""
        facts = os.statvfs(self.work)
        return (facts.f_blocks - facts.f_bfree) * facts.f_frsize, facts.f_files - facts.f_ffree

    def limit(self, *, size: int | None = None, nr_inodes: int | None = None) -> None:
        """Leave room for so many more bytes or files."""
        used = self.used()
        options = f"size={2**30 if size is None else used[0] + size}"
        options += f",nr_inodes={100_000 if nr_inodes is None else used[1] + nr_inodes}"
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.work)], check=True)

    def before(self, command: str) -> Path:
        names = [*COMMANDS]
        place = names.index(command)
        return self.folder / "states" / (names[place - 1] if place else "start")

    def after(self, command: str) -> Path:
        return self.folder / "states" / command

    def restore(self, command: str) -> None:
        """Fill the work folder with what was there before the undisturbed command."""
        for path in self.work.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        shutil.copytree(self.before(command), self.work, symlinks=True, dirs_exist_ok=True)

    def start(self, command: str, *, last_step: int | None = None, log: Path | None = None, workers: int = 1) -> int:
        """Fork a process that runs a command; its number.

        Args:
            command: name.
            last_step: kill it before this one of its steps: opening a file for writing, renaming, removing, ...
            log: for its output.
            workers: processes of a command that takes ``--workers``.
        """
        words = shlex.split(COMMANDS[command].replace("--workers 1", f"--workers {workers}"))
        number = os.fork()
        if number == 0:
            _run_in_fork([*words, "--root", "root"], self.work, log or self.log, last_step)
        return number

    def finish(self, number: int, *, log: Path | None = None, kill_at: float = np.inf, whole: bool = False) -> Result:
        """Wait for a command.

        Args:
            number: its process.
            log: of its output.
            kill_at: seconds of processor time after which it is killed; a busy machine does not shift the moment.
            whole: kill all its processes, as a queue does, and not the command alone, as a full memory does.
        """
        started, hung = time.monotonic(), False
        while True:
            ended, status, usage = os.wait4(number, os.WNOHANG)
            if ended:
                break
            hung = time.monotonic() - started > LONGEST_S
            if hung or _processor_seconds(number) > kill_at:
                (os.killpg if whole or hung else os.kill)(number, signal.SIGKILL)
                _, status, usage = os.wait4(number, 0)
                break
            time.sleep(0.002)
        log = log or self.log
        steps = log.with_suffix(".steps")
        return Result(
            code=os.waitstatus_to_exitcode(status),
            output=log.read_text(errors="replace"),
            seconds=usage.ru_utime + usage.ru_stime,
            steps=int(steps.read_text()) if steps.exists() else 0,
            hung=hung,
        )

    def run(self, command: str, **options: Any) -> Result:
        """Run a command to its end."""
        return self.finish(self.start(command, **options))

    def count(self, part: str, command: str, **counts: int) -> None:
        row = self.tally.setdefault((part, command), dict.fromkeys(COLUMNS, 0))
        for name, number in counts.items():
            row[name] += number

    def fault(self, part: str, command: str, kind: str, trial: int, details: Any) -> None:
        """Count a fault, and keep what it takes to repeat it."""
        self.count(part, command, **{kind: 1})
        line = {"part": part, "command": command, "kind": kind, "seed": self.seed, "trial": trial, "details": details}
        with (self.folder / "faults.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line)[:1500], flush=True)
        kept = self.folder / "faults" / f"{part}_{command}_{kind}_{trial}"
        if self.tally[part, command][kind] <= 2 and not kept.exists():
            shutil.copytree(self.work, kept, symlinks=True)
            shutil.copy(self.log, kept / "output.txt")

    def write_tally(self) -> list[dict[str, Any]]:
        """Write the counts so far; one row for each part and command."""
        rows = [{"part": part, "command": command, **counts} for (part, command), counts in self.tally.items()]
        (self.folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return rows


def _run_in_fork(argv: list[str], work: Path, log: Path, last_step: int | None) -> NoReturn:
    """Be the process of one command, to the end of the process."""
    code: Any = 1
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.chdir(work)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        steps = itertools.count(1)
        taken = [0]

        def notice(event: str, values: tuple[Any, ...]) -> None:
            if not _is_step(event, values, str(work)):
                return
            taken[0] = next(steps)
            if taken[0] == last_step:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(notice)
        try:
            run_autoseg(argv)
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException:
            traceback.print_exc()
        count = taken[0]
        threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter ends: threads first, then exit functions
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        log.with_suffix(".steps").write_text(str(count))
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        os._exit(code)


def _processor_seconds(number: int) -> float:
    """Processor time of a process of ours, as Linux numbers such clocks."""
    return time.clock_gettime(~number << 3 | 2)


def _is_step(event: str, values: tuple[Any, ...], work: str) -> bool:
    """Whether an audit event changes a file below the work folder."""
    if event == "open":
        path, mode, flags = values
        writes = set(mode or "") & set("wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR)
        if not writes or isinstance(path, int):
            return False
    elif event not in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"):
        return False
    path = os.fsdecode(values[0])
    return not path.startswith("/") or path.startswith(work)


def make_start(folder: Path) -> None:
    """A dataset in nnU-Net's layout, other scans with their labels, and files of the user."""
    rng = np.random.default_rng(0)
    grid = Grid(shape=SHAPE, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0))
    distance = sum(
        ((axis - (n - 1) / 2) / (n / 2 - 1)) ** 2 for axis, n in zip(np.ogrid[:20, :28, :24], SHAPE, strict=True)
    )
    places = [("source/imagesTr", "source/labelsTr", "c"), ("scans", "truth", "t")]
    for (images, labels, letter), number in itertools.product(places, range(CASES)):
        head = np.where(distance < 1, rng.normal(100, 5, SHAPE), 0).astype(np.float32)
        label = np.zeros(SHAPE, np.uint8)
        z, y, x = rng.integers(5, 10), rng.integers(7, 15), rng.integers(6, 12)
        label[z : z + 5, y : y + 6, x : x + 5] = 1
        head[label == 1] += 80
        write_voxels(folder / images / f"{letter}{number}_0000.nii.gz", head, grid)
        write_voxels(folder / labels / f"{letter}{number}.nii.gz", label, grid)
    facts = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "lesion": 1}, "numTraining": CASES}
    (folder / "source" / "dataset.json").write_text(json.dumps({**facts, "file_ending": ".nii.gz"}))
    for name in USERS:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}: mine\n")


def list_files(folder: Path) -> dict[str, Path]:
    """Name below the folder -> file or link."""
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}


def list_folders(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_dir() and not path.is_symlink()}


def digest(path: Path) -> str:
    """Hash of what a file says: its bytes, without the seconds that something took; of a record of a run, nothing."""
    if path.is_symlink():
        return f"link to {path.readlink()}"
    if path.name.endswith(RECORDS):
        return "there"
    content = path.read_bytes()
    if path.suffix == ".json":
        content = json.dumps(_without_times(json.loads(content))).encode()
    elif path.suffix == ".jsonl":  # whose lines stand in the order in which cases were done, twice if by two commands
        lines = {json.dumps(_without_times(json.loads(line))) for line in content.splitlines()}
        content = "\n".join(sorted(lines)).encode()
    elif path.suffix == ".pt":
        content = _render(_without_times(torch.load(io.BytesIO(content), weights_only=True)))
    elif path.suffix == ".html":
        content = re.sub(rb"([\d.]+ (h|min|s)\b ?)+|report of [-\d :]+", b"", content)
    return hashlib.sha256(content).hexdigest()


def _without_times(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _without_times(part) for key, part in value.items() if not (key in KEYS or str(key).endswith("_s"))
        }
    return [_without_times(part) for part in value] if isinstance(value, list | tuple) else value


def _render(value: Any) -> bytes:
    if isinstance(value, Mapping):
        return b"".join(repr(key).encode() + _render(part) for key, part in value.items())
    if isinstance(value, list):
        return b"[" + b",".join(map(_render, value)) + b"]"
    return (
        value.contiguous().view(torch.uint8).numpy().tobytes()
        if torch.is_tensor(value) and value.ndim
        else repr(value).encode()
    )


@dataclass(frozen=True, kw_only=True)
class State:
    """What a folder holds: name -> hash, and its folders."""

    files: dict[str, str]
    folders: set[str] = field(default_factory=set)


def read_state(folder: Path) -> State:
    return State(
        files={name: _try_digest(path) for name, path in list_files(folder).items()}, folders=list_folders(folder)
    )


def _try_digest(path: Path) -> str:
    try:
        return digest(path)
    except Exception as error:
        return f"unreadable: {type(error).__name__}: {error}"


def check_intact(soak: Soak, part: str, command: str, trial: int, states: Mapping[str, State], note: str) -> None:
    """After a disturbance: what the command does not change is there, unchanged."""
    stays = {name: made for name, made in states["before"].files.items() if states["after"].files.get(name) == made}
    lost = [name for name, made in stays.items() if _is_gone(soak.work / name, made)]
    if lost:
        soak.fault(part, command, "lost", trial, {"files": lost[:10], "note": note})


def _is_gone(path: Path, made: str) -> bool:
    return not (path.exists() or path.is_symlink()) or _try_digest(path) != made


def check_end(soak: Soak, part: str, command: str, trial: int, states: Mapping[str, State], note: str) -> None:
    """At the end: the folder is that of the undisturbed command."""
    ends, expected = read_state(soak.work), states["after"]
    more = [name for name in ends.files if name not in expected.files]
    more += sorted(ends.folders - expected.folders)
    wrong = find_wrong(ends, expected, part)
    lost = [name for name in wrong if states["before"].files.get(name) == expected.files[name]]
    different = [name for name in wrong if name not in lost] + sorted(expected.folders - ends.folders)
    for kind, names in (("left_over", more), ("lost", lost), ("different", different)):
        if names:
            soak.fault(part, command, kind, trial, {"files": names[:10], "of": len(names), "note": note})


def find_wrong(ends: State, expected: State, part: str) -> list[str]:
    """Names of files that are missing or differ.

    A training whose last checkpoint finds no room is finished with its weights alone: nothing reads the checkpoint of
    a finished fold.
    """
    spared = {name for name in expected.files if part == "full_disk" and name.endswith("/checkpoint.pt")}
    return [name for name, made in expected.files.items() if ends.files.get(name) != made and name not in spared]


def check_processes(soak: Soak, part: str, command: str, trial: int, number: int) -> None:
    """No process of a killed command lives on."""
    deadline = time.monotonic() + GRACE_S
    while members := _members(number):
        if time.monotonic() > deadline:
            names = [" ".join(process.cmdline())[:120] for process in members]
            for process in members:
                process.kill()
            soak.fault(part, command, "left_over", trial, {"processes": names})
            return
        time.sleep(0.02)


def _members(session: int) -> list[psutil.Process]:
    members = []
    for number in psutil.pids():
        try:
            if os.getsid(number) == session and number != session:
                process = psutil.Process(number)
                if process.status() != psutil.STATUS_ZOMBIE:
                    members.append(process)
        except (ProcessLookupError, psutil.Error):
            continue
    return members


def check_result(
    soak: Soak, part: str, command: str, trial: int, result: Result, note: str, *, codes: tuple[int, ...]
) -> bool:
    """The command ended as it should: an expected exit code, no traceback, and one sentence with exit code 2."""
    tail = result.output[-1500:]
    if result.has_traceback:
        soak.fault(part, command, "tracebacks", trial, {"output": tail, "note": note})
    if result.hung or result.code not in codes or (result.code == 2 and len(result.errors) != 1):
        soak.fault(
            part, command, "unfinished", trial, {"code": result.code, "hung": result.hung, "output": tail, "note": note}
        )
        return False
    return result.code == 0


def make_reference(soak: Soak) -> None:
    """Every command once, undisturbed; kept in the work folder for later runs of this script."""
    record = soak.folder / "reference.json"
    if record.exists():
        soak.seconds, soak.steps, soak.growth = json.loads(record.read_text())
        return
    make_start(soak.folder / "states" / "start")
    for command in COMMANDS:
        soak.restore(command)
        room = soak.used()
        result = soak.run(command)
        if result.code:
            sys.exit(f"{command} failed undisturbed (exit code {result.code}):\n{result.output[-3000:]}")
        soak.growth[command] = (soak.used()[0] - room[0], soak.used()[1] - room[1])
        soak.seconds[command], soak.steps[command] = result.seconds, result.steps
        shutil.copytree(soak.work, soak.after(command), symlinks=True)
        print(
            f"{command}: {result.seconds:.1f} s, {result.steps} steps, {soak.growth[command]} bytes and files",
            flush=True,
        )
    record.write_text(json.dumps([soak.seconds, soak.steps, soak.growth]))


_STATES: dict[str, dict[str, State]] = {}


def states_of(soak: Soak, command: str) -> dict[str, State]:
    if command not in _STATES:
        _STATES[command] = {"before": read_state(soak.before(command)), "after": read_state(soak.after(command))}
    return _STATES[command]


def kill(soak: Soak, command: str, trial: int, rng: np.random.Generator) -> None:
    """Kill a command two to five times, at random moments or before random steps; then let it finish."""
    soak.restore(command)
    states, notes, workers = states_of(soak, command), [], 1 + int(rng.random() < 0.15)
    for _ in range(rng.integers(2, 6)):
        is_short = soak.seconds[command] < SHORT_S
        step = int(rng.integers(1, soak.steps[command] + 1)) if is_short or rng.random() < 0.5 else None
        moment = np.inf if step else float(rng.uniform(0, soak.seconds[command]))
        whole = bool(rng.random() < 0.5)
        scope = "all processes" if whole else "alone"
        notes.append(f"before step {step}" if step else f"after {moment:.3f} s of processor time, {scope}")
        number = soak.start(command, last_step=step, workers=workers)
        result = soak.finish(number, kill_at=moment, whole=whole)
        check_processes(soak, "kill", command, trial, number)
        if result.code != -signal.SIGKILL or result.hung:
            break
        soak.count("kill", command, disturbed=1)
        check_intact(soak, "kill", command, trial, states, "; ".join(notes))
    else:
        result = soak.run(command, workers=workers)
    check_result(soak, "kill", command, trial, result, "; ".join(notes), codes=(0,))
    check_end(soak, "kill", command, trial, states, "; ".join(notes))


def fill(soak: Soak, command: str, trial: int, rng: np.random.Generator) -> None:
    """Run a command where the disk, or its table of files, is full after a part of what it writes; then make room."""
    soak.restore(command)
    states, (size, count) = states_of(soak, command), soak.growth[command]
    turn = soak.tally["full_disk", command]["trials"] - 1
    share = (turn // 2 % 10 + rng.random()) / 10
    room = {"nr_inodes": int(count * share)} if turn % 2 else {"size": int(size * share)}
    note = f"room for {room} of {size} bytes and {count} files"
    soak.limit(**room)
    result = soak.run(command)
    soak.limit()
    if check_result(soak, "full_disk", command, trial, result, note, codes=(0, 2)):
        wrong = find_wrong(read_state(soak.work), states["after"], "full_disk")
        if wrong:
            details = {"files": wrong[:10], "output": result.output[-1500:], "note": note}
            soak.fault("full_disk", command, "false_success", trial, details)
    else:
        soak.count("full_disk", command, disturbed=1)
        check_intact(soak, "full_disk", command, trial, states, note)
        result = soak.run(command)
        check_result(soak, "full_disk", command, trial, result, note, codes=(0,))
    check_end(soak, "full_disk", command, trial, states, note)


def double(soak: Soak, command: str, trial: int, rng: np.random.Generator) -> None:
    """Run a command twice at once: one of them wins whole and the other says so, or both end right."""
    soak.restore(command)
    states, delay = states_of(soak, command), float(rng.random() < 0.6) * rng.uniform(0, 0.9 * soak.seconds[command])
    logs = [soak.log, soak.log.with_name("second.txt")]
    first = soak.start(command, log=logs[0])
    time.sleep(delay)
    second = soak.start(command, log=logs[1])
    results = [soak.finish(number, log=log) for number, log in zip((first, second), logs, strict=True)]
    note = f"the second {delay:.3f} s later; exit codes {[result.code for result in results]}"
    note += "".join(f"; {result.errors}" for result in results if result.code)
    soak.count("two_at_once", command, disturbed=1)
    ends = [check_result(soak, "two_at_once", command, trial, result, note, codes=(0, 2)) for result in results]
    if not any(ends):
        soak.fault("two_at_once", command, "unfinished", trial, {"note": note})
    check_end(soak, "two_at_once", command, trial, states, note)
    soak.refusals.update(line for result in results for line in result.errors)


PARTS: dict[str, Callable[[Soak, str, int, np.random.Generator], None]] = {
    "kill": kill,
    "full_disk": fill,
    "two_at_once": double,
}


def main() -> int:
    """Run trials until the time is over; print and write the tally."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folder", type=Path, help="work folder; of an earlier run, its undisturbed commands are not repeated"
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["kill", "full_disk", "kill", "two_at_once"])
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS), help="that are disturbed")
    parser.add_argument("--first-trial", type=int, default=0, help="to repeat a trial of the same seed")
    args = parser.parse_args()
    load_package()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # the disk is unmounted
    args.folder.mkdir(parents=True, exist_ok=True)
    soak = Soak(args.folder, args.seed)
    with soak.small_disk():
        make_reference(soak)
        rows, deadline = soak.write_tally(), time.monotonic() + 60 * args.minutes
        choices = list(itertools.product(args.parts, args.commands))
        for trial in itertools.count(args.first_trial):
            part, command = choices[trial % len(choices)]
            if time.monotonic() > deadline:
                break
            if part == "full_disk" and not soak.is_mounted:
                continue
            soak.count(part, command, trials=1)
            PARTS[part](soak, command, trial, np.random.default_rng([args.seed, trial]))
            rows = soak.write_tally()
    print(render_table(rows))
    print("\n".join(sorted(soak.refusals)))
    return int(any(row[name] for row in rows for name in COLUMNS[2:]))


def render_table(rows: list[dict[str, Any]]) -> str:
    """A table in Markdown: a line for each part and command, and the sums."""
    parts = dict.fromkeys(row["part"] for row in rows)
    sums = [{name: sum(row[name] for row in rows if row["part"] == part) for name in COLUMNS} for part in parts]
    rows = rows + [{"part": part, "command": "all", **counts} for part, counts in zip(parts, sums, strict=True)]
    names = ("part", "command", *COLUMNS)
    lines = ["| " + " | ".join(name.replace("_", " ") for name in names) + " |", "|---" * len(names) + "|"]
    return "\n".join(
        lines + ["| " + " | ".join(str(row[name]).replace("_", " ") for name in names) + " |" for row in rows]
    )


def load_package() -> None:
    """Import everything before the first fork, and compute nothing, which would start threads."""
    for module in pkgutil.walk_packages(autoseg.__path__, "autoseg."):
        if module.name not in ("autoseg.__main__", "autoseg.train"):
            importlib.import_module(module.name)
    if threading.active_count() > 1:
        sys.exit("a thread was started before the first fork")


if __name__ == "__main__":
    sys.exit(main())
