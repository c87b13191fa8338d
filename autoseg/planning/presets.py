"""The three presets, each a small table of numbers; everything else in planning is rules that hold for all."""

from __future__ import annotations

from dataclasses import dataclass

from autoseg.core.errors import UsageError
from autoseg.core.records import OptimiserSettings, TrainingSettings


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Numbers that a plan starts from. Where two are given, the first is for 2D, the second for 3D.

    Attributes:
        network: in the NETWORKS table.
        base_features: channels of the finest stage; every coarser stage doubles them up to ``max_features``.
        encoder_blocks, decoder_blocks: per stage, finest first; the last number goes on.
        reference_gb: memory at which ``reference_elements`` convolution outputs of one sample fit.
        reference_elements: at a batch of ``reference_batch``.
        dataset_share: a batch holds at most this share of the dataset's voxels.
        padding_limit: a patch may be this many times larger than the whole case it holds; None pads as nnU-Net does.
        step_gflop: arithmetic that one training step may cost, or None where a GPU makes it no limit.
        optimiser, training: how, and how long.
    """

    network: str
    base_features: int
    max_features: tuple[int, int]
    encoder_blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]
    reference_gb: float
    reference_elements: tuple[float, float]
    reference_batch: tuple[int, int] = (12, 2)
    dataset_share: float = 0.05
    padding_limit: float | None = 1.5  # a third of the patch
    step_gflop: float | None = None
    optimiser: OptimiserSettings
    training: TrainingSettings


MIN_BATCH = 2  # instance norm needs no more, but the gradient of one patch is too noisy
MAX_BATCH = 64  # beyond it, loading data and not learning fills the time
LAPTOP_GFLOPS = 80.0  # what two cores with AVX2 or AVX-512 sustain in 3D convolutions, float32
PREDICTION_SECONDS = 10.0  # on such a laptop, mirrored prediction of a median case may take this long

_NNUNET_OPTIMISER = OptimiserSettings(
    name="sgd", learning_rate=1e-2, momentum=0.99, weight_decay=3e-5, schedule="poly", exponent=0.9, gradient_clip=12.0
)
_NNUNET_TRAINING = TrainingSettings(epochs=1000, steps_per_epoch=250)

PRESETS = {
    # A laptop without GPU: a quarter of the filters' cost, a step in about a second, an evening in all.
    "pocket": Preset(
        network="unet",
        base_features=16,
        max_features=(128, 128),
        encoder_blocks=(2,),
        decoder_blocks=(2,),
        reference_gb=8,
        reference_elements=(85e6, 560e6),
        step_gflop=70.0,
        optimiser=OptimiserSettings(
            name="adamw",
            learning_rate=1e-3,
            momentum=0.9,
            weight_decay=1e-2,
            schedule="poly",
            exponent=0.9,
            warmup_share=0.02,
            gradient_clip=12.0,
        ),
        training=TrainingSettings(epochs=100, steps_per_epoch=100, validation_cases=4, validation_interval=10),
    ),
    # Source: nnU-Net, doi:10.1038/s41592-020-01008-z, with the reference numbers of its version 2.
    "standard": Preset(
        network="unet",
        base_features=32,
        max_features=(512, 320),
        encoder_blocks=(2,),
        decoder_blocks=(2,),
        reference_gb=8,
        reference_elements=(85e6, 560e6),
        padding_limit=None,
        optimiser=_NNUNET_OPTIMISER,
        training=_NNUNET_TRAINING,
    ),
    # Source: residual encoder preset L, arXiv 2404.09556.
    "large": Preset(
        network="residual_unet",
        base_features=32,
        max_features=(512, 320),
        encoder_blocks=(1, 3, 4, 6),
        decoder_blocks=(1,),
        reference_gb=24,
        reference_elements=(380e6, 2.1e9),
        dataset_share=1.0,
        optimiser=_NNUNET_OPTIMISER,
        training=_NNUNET_TRAINING,
    ),
}


def find_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        UsageError: there is none; the message lists those there are.
    """
    if name not in PRESETS:
        raise UsageError(f"there is no preset '{name}'; known are: {', '.join(PRESETS)}")
    return PRESETS[name]
