"""A training as a child process of a worker, which starts and supervises it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where a second training of a fold is not noticed
    fcntl = None  # type: ignore[assignment]

POLL_S = 0.3
GRACE_S = 120.0  # for a training to finish its step and write a checkpoint
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)


@dataclass(frozen=True, kw_only=True)
class ChildTraining:
    """A training to run on a worker.

    Attributes:
        command: arguments of ``autoseg_train``, without a device.
        log: file for its output.
        token: file that exists if the worker shares the root's folder.
        stop_file: file whose presence stops it.
        device: ``auto``, ``cpu`` or ``cuda``.
        gpus: of the machine, where its workers share them; 0 where each worker has its own.
    """

    command: tuple[str, ...]
    log: Path
    token: Path
    stop_file: Path
    device: str
    gpus: int


def run_training(
    task: ChildTraining, *, is_cancelled: Callable[[], bool], worker_number: int | None
) -> tuple[str | None, bool, float]:
    """Run a training to its end.

    A lock, which the training itself holds, prevents a second one of the same fold, even after the worker that started
    the first has died; not on Windows.

    Args:
        task: the training.
        is_cancelled: polled; when true, the training is stopped.
        worker_number: where several workers share the GPUs of a machine.

    Returns:
        One sentence on why it failed, or None; whether it was stopped; and seconds.

    Raises:
        RuntimeError: it was killed; Dask then retries it.
    """
    if not task.token.exists():
        return f"this worker does not see {task.token.parent}; share the root's folder with all workers", False, 0.0

    def should_stop() -> bool:
        return task.stop_file.exists() or is_cancelled()

    started = time.monotonic()
    task.log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "autoseg.train", *task.command, "--device", _choose_gpu(task, worker_number)]
    with task.log.open("ab") as output, task.log.with_suffix(".lock").open("w") as lock:
        if not _acquire(lock.fileno(), should_stop):
            return None, True, time.monotonic() - started
        start = output.tell()
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            pass_fds=(lock.fileno(),) if fcntl else (),
            start_new_session=True,  # so that Ctrl-C reaches it once, through this process
        )
        try:
            code = _wait(process, should_stop)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    seconds = time.monotonic() - started
    if code in STOPPED:
        return None, True, seconds
    if code < 0:
        raise RuntimeError(f"the training was killed by signal {-code}; see {task.log}")
    return (None if code == 0 else _error_message(task.log, start)), False, seconds


def _acquire(descriptor: int, should_stop: Callable[[], bool]) -> bool:
    """Wait until no other training of this fold runs; False if stopped meanwhile."""
    if fcntl is None:
        return not should_stop()
    while not should_stop():
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(POLL_S)
        else:
            return True
    return False


def _wait(process: subprocess.Popen[bytes], should_stop: Callable[[], bool]) -> int:
    """The exit code; when stopped, the training gets time to finish its step and write a checkpoint."""
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


def _choose_gpu(task: ChildTraining, worker_number: int | None) -> str:
    """The device; where workers share the GPUs of a machine, that of this worker's number."""
    if not task.gpus or task.device == "cpu" or worker_number is None:
        return task.device
    return f"cuda:{worker_number % task.gpus}"


def _error_message(path: Path, start: int) -> str:
    """The error of a failed training, or the last line of its traceback."""
    with path.open("rb") as file:
        file.seek(start)
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line.partition(": error: ")[2] for line in lines if ": error: " in line]
    return f"{(errors or lines or ['it failed without output'])[-1]} (see {path})"
