"""A tiny network, endless tiny batches and a configuration to train with."""

import numpy as np
import pytest
import torch
from torch import nn

from autoseg.core.records import (
    AugmentationSettings,
    ChannelNormalization,
    Configuration,
    LossSettings,
    NetworkSettings,
    OptimiserSettings,
    PreprocessingSettings,
    SamplingSettings,
    TilingSettings,
    TrainingSettings,
)
from autoseg.losses import build_loss
from autoseg.training import Hooks, TrainingState, pack_checkpoint, train_fold, unpack_checkpoint


class Tiny(nn.Module):
    """Two convolutions with dropout and a running norm between, so that all kinds of state are there."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.LeakyReLU(), nn.Dropout(0.1), nn.Conv3d(4, 2, 1)
        )

    def forward(self, x):
        return [self.layers(x)]


class TinyBatches:
    """Bright voxels are lesion; batch k depends on k alone. Steps named in ``broken`` hold a NaN."""

    def __init__(self, broken=()) -> None:
        self.broken = broken
        self.asked, self.stages = [], []

    def batch(self, step, stage=0):
        self.asked.append(step)
        self.stages.append(stage)
        image = np.random.default_rng(step).standard_normal((2, 1, 4, 6, 8)).astype(np.float32)
        target = torch.from_numpy((image[:, 0] > 0.5).astype(np.int16))
        if step in self.broken:
            image[0, 0, 0, 0, 0] = np.nan
        return torch.from_numpy(image), target


class Clock:
    """A clock that moves on by one second whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def configured(optimiser=None, **training):
    """A configuration with these optimiser and training settings."""
    ones = (1, 1, 1)
    return Configuration(
        dimensions=3,
        preprocessing=PreprocessingSettings(spacing=(1.0, 1.0, 1.0), channels=(ChannelNormalization(),)),
        patch_size=(4, 6, 8),
        batch_size=2,
        network=NetworkSettings(
            name="any", features=(2, 2), kernels=(ones, ones), strides=(ones, ones), encoder_blocks=(1, 1),
            decoder_blocks=(1,), deep_supervision=False,
        ),
        loss=LossSettings(),
        optimiser=OptimiserSettings(**{"momentum": 0.9, **(optimiser or {})}),
        training=TrainingSettings(**{"epochs": 3, "steps_per_epoch": 4, "validation_interval": 1, **training}),
        sampling=SamplingSettings(foreground_share=0.3, lesion_share=0.3),
        augmentation=AugmentationSettings(
            rotation_probability=0, rotation_degrees=(0, 0), scale_probability=0, mirror_axes=()
        ),
        tiling=TilingSettings(tile_size=(4, 6, 8)),
    )  # fmt: skip


class Bench:
    """Everything a training test needs."""

    Clock, TinyBatches = Clock, TinyBatches
    configured = staticmethod(configured)

    @staticmethod
    def network():
        """Always the same first weights."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Tiny()

    def train(
        self, configuration=None, *, network=None, batches=None, loss=None, checkpoint=None, parts=None, seed=0,
        epochs=None, steps_per_epoch=None, **options,
    ):  # fmt: skip
        """One call of ``train_fold`` on the CPU; gives the state."""
        configuration = configuration or configured()
        length = {"epochs": epochs, "steps_per_epoch": steps_per_epoch}
        length = {name: value for name, value in length.items() if value is not None}
        training = configuration.training.model_copy(update=length)
        configuration = configuration.model_copy(update={"training": training})
        state = TrainingState.start(network or self.network(), configuration, parts=parts, seed=seed)
        if checkpoint is not None:
            state.restore(checkpoint, configuration)
        hooks = {name: options.pop(name) for name in Hooks.__dataclass_fields__ if name in options}
        loss = loss or build_loss(LossSettings())
        train_fold(state, configuration, batches or TinyBatches(), loss, hooks=Hooks(**hooks), **options)
        return state

    @staticmethod
    def reload(state):
        """The checkpoint of a state, from the bytes of its file."""
        return unpack_checkpoint(pack_checkpoint(state.capture()))

    @staticmethod
    def same(first, second):
        """Two networks or dictionaries of tensors agree bit for bit."""
        first, second = (c.state_dict() if isinstance(c, nn.Module) else c for c in (first, second))
        return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def bench():
    return Bench()
