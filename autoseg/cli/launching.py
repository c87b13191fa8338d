"""Several processes of one command on this machine: started together, stopped together."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from autoseg.cli.running import rank_variables
from autoseg.core.errors import TrainingError

GRACE_S = 30.0  # for the other processes to notice, save and end

Process = subprocess.Popen[bytes]


def launch(argv: Sequence[str], devices: int) -> int:
    """Run ``autoseg_train`` in several processes; each signal is passed to all of them.

    Args:
        argv: the command's arguments, the same for all.
        devices: how many processes.

    Returns:
        The exit code: 0, or what the first process that failed ended with.

    Raises:
        TrainingError: a process was killed; the others have ended, too.
    """
    command, port = [sys.executable, "-m", "autoseg.train", *map(str, argv)], _free_port()
    processes = [
        # In a session of its own, each receives Ctrl-C once, through this process.
        subprocess.Popen(command, env=rank_variables(rank, devices, port), start_new_session=True)
        for rank in range(devices)
    ]

    def pass_on(number: int, frame: object) -> None:
        for process in processes:
            process.send_signal(number)

    for handled in (signal.SIGINT, signal.SIGTERM):
        signal.signal(handled, pass_on)
    codes = _wait(processes)
    rank, first = next(iter(codes.items()), (0, 0))
    if first < 0:
        raise TrainingError(
            f"process {rank + 1} of {devices} was killed by signal {-first} ({signal.Signals(-first).name}), so the "
            f"others were ended; the same command resumes from the last checkpoint"
        )
    return first


def _wait(processes: Sequence[Process]) -> dict[int, int]:
    """Wait until all have ended; rank -> exit code of those that failed, first failure first."""
    codes: dict[int, int] = {}
    deadline = float("inf")
    while True:
        running = [process for process in processes if process.poll() is None]
        for rank, process in enumerate(processes):
            if process.returncode and rank not in codes:
                codes[rank] = process.returncode
                deadline = min(deadline, time.monotonic() + GRACE_S)
        if not running:
            return codes
        if time.monotonic() > deadline:
            for process in running:
                process.kill()
            deadline = float("inf")
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
