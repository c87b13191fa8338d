"""A training as a process of its own, started and watched by a worker."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.3
GRACE_S = 120.0  # for a training to finish its step and write
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a worker must know to run a training.

    Attributes:
        command: arguments of ``autoseg_train``, without a device.
        log: file that gets what it says.
        token: file that is there if the worker shares our folder.
        halt: file whose presence tells to stop.
        device: ``auto``, ``cpu`` or ``cuda``.
        gpus: of the machine, where its workers share them; 0 where each worker has its own.
    """

    command: tuple[str, ...]
    log: Path
    token: Path
    halt: Path
    device: str
    gpus: int


def run_training(
    task: Training, *, is_wanted: Callable[[], bool], number: int | None
) -> tuple[str | None, bool, float]:
    """Run a training to its end, on the worker.

    A lock that the training itself holds keeps a second one out as long as the first lives, even when the worker that
    started it is gone.

    Args:
        task: what to run.
        is_wanted: asked all the while; when it is not, the training is stopped.
        number: of this worker, where several share the GPUs of a machine.

    Returns:
        One sentence on why it failed, or None; whether it was stopped; and seconds.

    Raises:
        RuntimeError: it was killed, so that it is tried again.
    """
    if not task.token.exists():
        return f"this worker does not see {task.token.parent}; it must share the root's folder", False, 0.0

    def should_stop() -> bool:
        return task.halt.exists() or not is_wanted()

    began = time.monotonic()
    task.log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "autoseg.train", *task.command, "--device", _choose_gpu(task, number)]
    with task.log.open("ab") as output, task.log.with_suffix(".lock").open("w") as lock:
        if not _acquire(lock.fileno(), should_stop):
            return None, True, time.monotonic() - began
        start = output.tell()
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            pass_fds=(lock.fileno(),),
            start_new_session=True,  # a Ctrl-C reaches it once, through us
        )
        try:
            code = _wait(process, should_stop)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    seconds = time.monotonic() - began
    if code in STOPPED:
        return None, True, seconds
    if code < 0:
        raise RuntimeError(f"the training was killed by signal {-code}; {task.log} says how far it came")
    return (None if code == 0 else _last_words(task.log, start)), False, seconds


def _acquire(descriptor: int, should_stop: Callable[[], bool]) -> bool:
    """Wait until no other training of this fold lives; False when told to stop meanwhile."""
    while not should_stop():
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(POLL_S)
        else:
            return True
    return False


def _wait(process: subprocess.Popen[bytes], should_stop: Callable[[], bool]) -> int:
    """The exit code; told to stop, the training gets time to finish its step and write."""
    deadline = float("inf")
    while process.poll() is None:
        now = time.monotonic()
        if deadline == float("inf") and should_stop():
            process.send_signal(signal.SIGINT)
            deadline = now + GRACE_S
        if now > deadline:
            process.kill()
        time.sleep(POLL_S)
    return process.returncode


def _choose_gpu(task: Training, number: int | None) -> str:
    """On a machine whose workers share its GPUs, the one of this worker's number."""
    if not task.gpus or task.device == "cpu" or number is None:
        return task.device
    return f"cuda:{number % task.gpus}"


def _last_words(path: Path, start: int) -> str:
    """What a training said when it failed: its error, or the end of a traceback."""
    with path.open("rb") as file:
        file.seek(start)
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    told = [line.partition(": error: ")[2] for line in lines if ": error: " in line]
    return f"{(told or lines or ['it ended without a word'])[-1]} (see {path})"
