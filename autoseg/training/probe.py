"""One real training step on the device, to know what it takes before days are spent on it."""

from __future__ import annotations

import gc

import torch
from torch import Tensor, nn

from autoseg.core.records import Configuration
from autoseg.networks.metering import Meter
from autoseg.training.loop import train_fold
from autoseg.training.run import DeepLoss

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

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """(B,C,*patch) float32 and (B,*patch) int16; the same for the same step."""
        generator = torch.Generator().manual_seed(step)
        target = torch.randint(self.classes, (self.shape[0], *self.shape[2:]), generator=generator, dtype=torch.int16)
        return torch.randn(self.shape, generator=generator), target


def probe_step(
    network: nn.Module, configuration: Configuration, batches: NoiseBatches, *, loss: DeepLoss, device: torch.device
) -> int:
    """Train a few steps as a fold would, and measure.

    Args:
        network: on ``device``, freshly built; its weights are of no use afterwards.
        configuration: patch, batch, accumulation, optimiser, precision.
        batches: noise.
        loss: of the configuration.
        device: where training will run.

    Returns:
        Bytes at the worst moment: what torch had reserved on a GPU, what lived at once on a CPU.

    Raises:
        MemoryShortageError: there is too little.
    """

    def train() -> None:
        # Noise never validates, and its loss need not be good.
        train_fold(network, configuration, batches, loss=loss, device=device, epochs=1, steps_per_epoch=STEPS)

    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        train()
        return torch.cuda.max_memory_reserved(device)
    meter = Meter()
    meter.hold([*network.parameters(), *network.buffers()])
    with meter:
        train()
    return meter.peak
