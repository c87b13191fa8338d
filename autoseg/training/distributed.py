"""Data-parallel training: several processes train one network, each on its share of every batch."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

from autoseg.core.errors import TrainingError

GLOO_SHUTDOWN_S = 0.3
COLLECTIVE_TIMEOUT = timedelta(hours=12)  # others wait while the first validates; launchers notice a dead rank


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """One process among those that train together; alone, all collectives return at once.

    Attributes:
        rank: of this process among all, from 0; the first one writes, validates and logs.
        world: number of processes.
        local: of this process on its machine, which is the number of its GPU.
        neighbours: number of processes on its machine.
        attempt: number of restarts by a launcher.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    neighbours: int = 1
    attempt: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes, validates and logs."""
        return self.rank == 0

    def mean(self, value: float) -> float:
        """The mean over all processes; NaN when it is NaN in any."""
        return value if self.world == 1 else self._reduce(value, distributed.ReduceOp.SUM) / self.world

    def largest(self, value: float) -> float:
        """The largest of all processes' values."""
        return value if self.world == 1 else self._reduce(value, distributed.ReduceOp.MAX)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return self.largest(float(flag)) > 0

    def from_first(self, value: float | None) -> float | None:
        """The value of the first process, in all of them."""
        if self.world == 1:
            return value
        message = torch.tensor([value is not None, value or 0.0], dtype=torch.float64)
        with peer_failure_as_error():
            distributed.broadcast(message, 0)
        return float(message[1]) if message[0] else None

    def wait(self) -> None:
        """Block until every process has called this."""
        self.mean(0.0)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one type by their means over the processes: gradients, and the loss beside them.

        One reduction after the backward pass instead of hooks within it: a head without a loss has no gradient, as in
        one process; gradients may be accumulated; and a step that is skipped is skipped by all.
        """
        if self.world == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with peer_failure_as_error():
            distributed.all_reduce(flat)
        flat /= self.world
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def share_buffers(self, buffers: Iterable[Tensor]) -> None:
        """Copy the first process's running statistics to all, so that their networks stay equal."""
        if self.world > 1:
            with peer_failure_as_error():
                for buffer in buffers:
                    distributed.broadcast(buffer, 0)

    @staticmethod
    def _reduce(value: float, operation: distributed.ReduceOp.RedOpType) -> float:
        number = torch.tensor([value], dtype=torch.float64)
        with peer_failure_as_error():
            distributed.all_reduce(number, operation)
        return float(number)


ALONE = Ranks()


@contextmanager
def peer_failure_as_error() -> Iterator[None]:
    """Raise a failed collective as an error that names the cause: another process has ended."""
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            "another of the processes that train together has ended, so this one ends, too; run the same command "
            "again to resume from the last checkpoint"
        ) from error


@contextmanager
def joined(ranks: Ranks, device: torch.device) -> Iterator[None]:
    """Connect the processes while the block runs, at the address in the launcher's variables.

    Args:
        ranks: this process among all.
        device: of the training: scalars are reduced by gloo, gradients on a GPU by NCCL.

    Raises:
        TrainingError: the processes could not connect.
    """
    if ranks.world == 1:
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        store, _, _ = next(distributed.rendezvous("env://", ranks.rank, ranks.world, timeout=COLLECTIVE_TIMEOUT))
        if ranks.neighbours == ranks.world:
            # torchrun may keep its store, with addresses of ended processes, over restarts. Across machines, processes
            # can disagree on the number of the attempt.
            store = distributed.PrefixStore(f"attempt_{ranks.attempt}", store)
        distributed.init_process_group(
            backend, store=store, rank=ranks.rank, world_size=ranks.world, timeout=COLLECTIVE_TIMEOUT
        )
    except RuntimeError as error:
        raise TrainingError(
            f"the processes that train together could not connect ({str(error).splitlines()[0]}); run the same command "
            f"again"
        ) from error
    try:
        yield
    finally:
        distributed.destroy_process_group()
        # Gloo's threads release their last tensors after the call that used them; doing so while the interpreter shuts
        # down aborts the whole process.
        gc.collect()
        time.sleep(GLOO_SHUTDOWN_S)
