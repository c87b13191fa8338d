"""Several processes that train one network together, each on its share of every batch."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

from autoseg.core.errors import TrainingError

GLOO_SHUTDOWN_S = 0.3
PATIENCE = timedelta(hours=12)  # the others wait while the first validates; a rank that died is noticed by its launcher


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Which process of how many this is; alone, every question is answered at once.

    Attributes:
        rank: of this process among all, from 0; the first one writes, validates and speaks.
        world: how many there are.
        local: of this process on its machine, which is the number of its GPU.
        neighbours: how many there are on its machine.
        attempt: how often a launcher has started them all again.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    neighbours: int = 1
    attempt: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes, validates and speaks."""
        return self.rank == 0

    def mean(self, value: float) -> float:
        """The mean over all processes; NaN when it is NaN in any."""
        return value if self.world == 1 else self._reduce(value, distributed.ReduceOp.SUM) / self.world

    def largest(self, value: float) -> float:
        """The largest of all processes' values."""
        return value if self.world == 1 else self._reduce(value, distributed.ReduceOp.MAX)

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        return self.largest(float(flag)) > 0

    def from_first(self, value: float | None) -> float | None:
        """What the first process says; the others' values do not count."""
        if self.world == 1:
            return value
        said = torch.tensor([value is not None, value or 0.0], dtype=torch.float64)
        with peer_failure_as_error():
            distributed.broadcast(said, 0)
        return float(said[1]) if said[0] else None

    def wait(self) -> None:
        """Until every process has come here."""
        self.mean(0.0)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes; weights without one keep none.

        One reduction at the end of the step, not hooks on the way back: a head that has no loss has no gradient here
        as it has none alone, batches may go through in parts, and a step that is left out is left out by all.
        """
        if self.world == 1:
            return
        gradients = [weight.grad for weight in parameters if weight.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        with peer_failure_as_error():
            distributed.all_reduce(flat)
        flat /= self.world
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def share_buffers(self, buffers: Iterable[Tensor]) -> None:
        """Give all processes the first one's running statistics, so that their networks stay equal."""
        if self.world > 1:
            with peer_failure_as_error():
                for buffer in buffers:
                    distributed.broadcast(buffer, 0)

    @staticmethod
    def _reduce(value: float, how: distributed.ReduceOp.RedOpType) -> float:
        number = torch.tensor([value], dtype=torch.float64)
        with peer_failure_as_error():
            distributed.all_reduce(number, how)
        return float(number)


ALONE = Ranks()


@contextmanager
def peer_failure_as_error() -> Iterator[None]:
    """What the others' death looks like from here, in a sentence."""
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            "another of the processes that train together has ended, so this one ends, too; the same command goes on "
            "from the last checkpoint"
        ) from error


@contextmanager
def joined(ranks: Ranks, device: torch.device) -> Iterator[None]:
    """While the block runs, the processes hear each other; they meet where the launcher's variables say.

    Args:
        ranks: this process among all.
        device: where it trains: small numbers go by gloo, gradients on a GPU by NCCL.

    Raises:
        TrainingError: they did not find each other.
    """
    if ranks.world == 1:
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        store, _, _ = next(distributed.rendezvous("env://", ranks.rank, ranks.world, timeout=PATIENCE))
        if ranks.neighbours == ranks.world:
            # torchrun may keep its store over restarts, and the addresses of processes that are gone in it. Processes
            # on several machines can disagree on the number of the attempt.
            store = distributed.PrefixStore(f"attempt_{ranks.attempt}", store)
        distributed.init_process_group(backend, store=store, rank=ranks.rank, world_size=ranks.world, timeout=PATIENCE)
    except RuntimeError as error:
        raise TrainingError(
            f"the processes that train together did not find each other ({str(error).splitlines()[0]}); run the same "
            f"command again"
        ) from error
    try:
        yield
    finally:
        distributed.destroy_process_group()
        # Gloo's threads let go of their last tensors after the call that used them; one that does so while the
        # interpreter shuts down aborts the whole process.
        gc.collect()
        time.sleep(GLOO_SHUTDOWN_S)
