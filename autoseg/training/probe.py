"""A few real training steps on the device, to measure their memory before a long training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autoseg.core.devices import release_memory
from autoseg.core.records import Configuration
from autoseg.networks.metering import Meter
from autoseg.training.loop import DeepLoss, train_fold
from autoseg.training.state import TrainingState

STEPS = 3  # the first creates the optimiser's state, and on a GPU tries kernels


class NoiseBatches:
    """Batches of noise in the shape of a configuration's own.

    Args:
        configuration: patch and batch.
        channels: of the network's input.
        classes: label values 0, 1, ... of the target.
    """

    def __init__(self, configuration: Configuration, channels: int, classes: int) -> None:
        self.shape = (configuration.batch_size, channels, *configuration.patch_size)
        self.classes = classes

    def batch(self, step: int, stage: int = 0) -> tuple[Tensor, Tensor]:
        """(B,C,*patch) float32 and (B,*patch) int16; the same for the same step, and in every stage."""
        generator = torch.Generator().manual_seed(step)
        target = torch.randint(self.classes, (self.shape[0], *self.shape[2:]), generator=generator, dtype=torch.int16)
        return torch.randn(self.shape, generator=generator), target


def probe_step(
    network: nn.Module, configuration: Configuration, batches: NoiseBatches, *, loss: DeepLoss, device: torch.device
) -> int:
    """Train a few steps as a fold would, and measure their memory.

    Args:
        network: on ``device``, freshly built; its weights become meaningless.
        configuration: patch, batch, accumulation, optimiser, precision.
        batches: noise.
        loss: of the configuration.
        device: where training will run.

    Returns:
        Peak bytes: reserved by torch on a GPU, of all live tensors on a CPU.

    Raises:
        MemoryShortageError: memory ran out.
    """

    def train() -> None:
        training = configuration.training.model_copy(update={"epochs": 1, "steps_per_epoch": STEPS})
        # Without frozen parts, whose gradients need memory once they are trained.
        short = configuration.model_copy(update={"training": training, "transfer": None})
        train_fold(TrainingState.start(network, short), short, batches, loss)

    if device.type == "cuda":
        release_memory(device)
        torch.cuda.reset_peak_memory_stats(device)
        train()
        return torch.cuda.max_memory_reserved(device)
    meter = Meter()
    meter.hold([*network.parameters(), *network.buffers()])
    with meter:
        train()
    return meter.peak
