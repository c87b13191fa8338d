"""Small networks of any name, and trainings of a few steps."""

import torch

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
from autoseg.networks import NETWORKS, build_network, fit_settings, network_traits
from autoseg.training import Hooks, NoiseBatches, TrainingState, train_fold

CHANNELS, CLASSES = 2, 3
ON_ENCODERS = tuple(name for name in NETWORKS if network_traits(name).fixed is not None)


def configured(name="unet", dimensions=3, options=None, *, optimiser=None, loss=None, **training):
    """A configuration of the smallest network of that name."""
    patch = (32, 64) if name in ON_ENCODERS else (4, 8, 12)[-dimensions:]
    features = network_traits(name).usual_features((4, 6, 8))
    options = {**(options or {}), **({"encoder": "tu-test_efficientnet"} if name in ON_ENCODERS else {})}
    options |= {"layers": 3} if name == "unetr" else {}
    network = NetworkSettings(
        name=name,
        features=features if name == "ratlesnetv2" else (4, 6, 8),
        kernels=((1, 3, 3)[-dimensions:], (3,) * dimensions, (3,) * dimensions),
        strides=((1,) * dimensions, (1, 2, 2)[-dimensions:], (2,) * dimensions),
        encoder_blocks=(1, 2, 2),
        decoder_blocks=(1, 2),
        options=options,
    )
    return Configuration(
        dimensions=dimensions,
        preprocessing=PreprocessingSettings(spacing=(1.0, 1.0, 1.0), channels=(ChannelNormalization(),) * CHANNELS),
        patch_size=patch,
        batch_size=2,
        network=fit_settings(network, dimensions=dimensions, patch=patch),
        loss=LossSettings(
            options=loss or {},
            deep_supervision_weights=(1.0, 0.5) if network_traits(name).supports_deep_supervision else (),
        ),
        optimiser=OptimiserSettings(**{"name": "sgd", "momentum": 0.9, "learning_rate": 1e-2, **(optimiser or {})}),
        training=TrainingSettings(
            **{"epochs": 1, "steps_per_epoch": 2, "ema_decay": 0.9, "precision": "float32", **training}
        ),
        sampling=SamplingSettings(foreground_share=0.3, lesion_share=0.3),
        augmentation=AugmentationSettings(
            rotation_probability=0, rotation_degrees=(0, 0), scale_probability=0, mirror_axes=()
        ),
        tiling=TilingSettings(tile_size=patch, mirror_axes=(dimensions - 1,)),
    )


class PinnedNoise:
    """Batches of noise where a GPU can fetch them. Steps named in ``broken`` hold a NaN."""

    def __init__(self, configuration, broken=()):
        self.noise, self.broken = NoiseBatches(configuration, CHANNELS, CLASSES), broken

    def batch(self, step, stage=0):
        image, target = self.noise.batch(step)
        if step in self.broken:
            image[(0,) * image.dim()] = float("nan")
        return (image.pin_memory(), target.pin_memory()) if torch.cuda.is_available() else (image, target)


def trained(configuration, device, *, broken=(), checkpoint=None, **hooks):
    """The state after a training on noise."""
    network = build_network(
        configuration.network, dimensions=configuration.dimensions, input_channels=CHANNELS, output_channels=CLASSES,
        seed=1,
    )  # fmt: skip
    state = TrainingState.start(network.to(device), configuration, seed=3)
    if checkpoint is not None:
        state.restore(checkpoint, configuration)
    batches, loss = PinnedNoise(configuration, broken), build_loss(configuration.loss)
    train_fold(state, configuration, batches, loss, hooks=Hooks(**hooks))
    return state
