"""Choice of the faster batch engine, by a short timing beside the network."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from autoseg.batches.loading import Batches

MAX_S = 2.0
MAX_BATCHES = 32
MIN_BATCHES = 3


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one step's parts.

    Attributes:
        cpu_s: a batch by the compiled loops in threads.
        gpu_s: a batch by torch on the GPU.
        step_s: the network's own part of a step.
    """

    cpu_s: float
    gpu_s: float
    step_s: float

    def choose(self) -> Literal["cpu", "gpu"]:
        """The engine with the shorter step.

        Threads work beside the network, so the longer of the two decides; the GPU does one after the other.
        """
        return "cpu" if max(self.cpu_s, self.step_s) <= self.gpu_s + self.step_s else "gpu"

    def describe(self) -> str:
        """The figures, for a log line."""
        return (
            f"a batch takes the CPU's threads {self.cpu_s:.3f} s and the GPU {self.gpu_s:.3f} s, and the network's "
            f"step {self.step_s:.3f} s"
        )


def time_batches(
    batches: Batches, *, wait: Callable[[], None] = lambda: None, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds per batch, for two seconds of them, after a first one that starts the threads.

    As many batches are under way at the end as at the beginning, so what threads make ahead does not count.

    Args:
        batches: as a training asks for them.
        wait: for a device that works on what it was given.
        clock: seconds.
    """
    batches.batch(0)
    wait()
    began, drawn = clock(), 0
    while drawn < MIN_BATCHES or (drawn < MAX_BATCHES and clock() - began < MAX_S):
        drawn += 1
        batches.batch(drawn)
        wait()
    return (clock() - began) / drawn
