"""Presets, each a small table of numbers; everything else in planning is rules that hold for all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from autoseg.core.choices import PresetName
from autoseg.core.errors import UsageError
from autoseg.core.records import OptimiserSettings, TrainingSettings
from autoseg.core.registry import unknown_name


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Numbers that a plan starts from. Where two are given, the first is for 2D, the second for 3D.

    Attributes:
        for_gpu: trainings run on a GPU, in mixed precision; without one, arithmetic limits a step and mirroring.
        default_gb: the budget where none is given.
        network: in the NETWORKS table.
        base_features: channels of the finest stage; every coarser stage doubles them up to ``max_features``.
        encoder_blocks, decoder_blocks: per stage, finest first; the last number repeats.
        reference_gb: memory at which ``reference_elements`` convolution outputs of one sample fit.
        reference_elements: at a batch of ``reference_batch``.
        fitting_batch: the batch at which the patch must fit; memory left over then makes the batch larger.
        dataset_share: a batch holds at most this share of the dataset's voxels.
        step_gflop: largest arithmetic of one training step; None sets no limit.
        optimiser, training: complete settings.

    The last fields are our departures from nnU-Net; ``find_preset(..., compat="nnunet")`` reverts each.

        batch_limit: the largest batch; None sets none.
        padding_limit: a patch may be this many times larger than the whole case it holds; None pads without limit.
        least_edge: voxels below which no axis of a patch is shortened.
        least_gb: memory below which the patch is planned as for this much, and the network made cheaper instead.
        keeps_budget: whether the predicted memory of a training step must stay within the budget.
        least_slice: in-plane voxels of the median slice below which there is no 2D configuration.
        orientation: the axes to plan on: turned to the canonical order, or as they are stored.
        finds_head: crop to the head where the background is not zero.
        light_augmentation: smaller and rarer changes than nnU-Net's, for trainings too short to overfit.
        substitutes_channels: imitate cases in which one channel stands in the place of another.
        keeps_positional_axes: never mirror an axis along which labels are told apart by where they lie.
        lesion_sampling: draw some patches lesion by lesion where small lesions are common.
        halves_arrays: store preprocessed voxels in half precision where all cases together do not fit in memory.
        channel_names: ``ours`` knows more names of channels with an absolute scale.
        counts_all_labels: count one output per name in ``labels`` of nnU-Net's dataset.json (``background`` beside
            regions, and ``ignore``), not per output that the network has.
    """

    for_gpu: bool = True
    default_gb: float
    network: str
    base_features: int
    max_features: tuple[int, int]
    encoder_blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]
    reference_gb: float
    reference_elements: tuple[float, float]
    reference_batch: tuple[int, int] = (12, 2)
    fitting_batch: tuple[int, int] = (2, 2)
    dataset_share: float = 0.05
    step_gflop: float | None = None
    optimiser: OptimiserSettings
    training: TrainingSettings
    batch_limit: int | None = 64  # beyond it, loading data takes the time, not learning
    padding_limit: float | None = 1.5  # a third of the patch
    least_edge: int = 8  # what can still be halved once
    least_gb: float = 4.0  # the least that nnU-Net is used with; its patch there still shows most of a brain
    keeps_budget: bool = True
    least_slice: int = 16  # smaller slices show too little
    orientation: Literal["canonical", "stored"] = "canonical"
    finds_head: bool = True
    light_augmentation: bool = False
    substitutes_channels: bool = True
    keeps_positional_axes: bool = True
    lesion_sampling: bool = True
    halves_arrays: bool = True
    channel_names: Literal["ours", "nnunet"] = "ours"
    counts_all_labels: bool = False


MIN_BATCH = 2  # instance norm needs no more, but the gradient of one patch is too noisy
LAPTOP_GFLOPS = 80.0  # what two cores with AVX2 or AVX-512 sustain in 3D convolutions, float32
PREDICTION_SECONDS = 10.0  # on such a laptop, mirrored prediction of a median case may take this long

_NNUNET_OPTIMISER = OptimiserSettings(
    name="sgd", learning_rate=1e-2, momentum=0.99, weight_decay=3e-5, schedule="poly", exponent=0.9, gradient_clip=12.0
)
_NNUNET_TRAINING = TrainingSettings(epochs=1000, steps_per_epoch=250)

_RESIDUAL = Preset(
    default_gb=8.0,
    network="residual_unet",
    base_features=32,
    max_features=(512, 320),
    encoder_blocks=(1, 3, 4, 6),
    decoder_blocks=(1,),
    reference_gb=8,
    reference_elements=(135e6, 680e6),
    fitting_batch=(12, 2),
    dataset_share=1.0,
    optimiser=_NNUNET_OPTIMISER,
    training=_NNUNET_TRAINING,
)
_RESIDUAL_L = replace(_RESIDUAL, default_gb=24.0, reference_gb=24, reference_elements=(380e6, 2.1e9))
_NO_DEPARTURES: dict[str, Any] = {
    "batch_limit": None,
    "padding_limit": None,
    "least_edge": 1,
    "least_gb": 0.0,
    "keeps_budget": False,
    "least_slice": 0,
    "orientation": "stored",
    "finds_head": False,
    "substitutes_channels": False,
    "keeps_positional_axes": False,
    "lesion_sampling": False,
    "halves_arrays": False,
    "channel_names": "nnunet",
    "counts_all_labels": True,
}

PRESETS: dict[PresetName, Preset] = {
    # A laptop without GPU: a quarter of the filters' cost, a step in about a second, an evening in all.
    "pocket": Preset(
        for_gpu=False,
        default_gb=4.0,
        network="unet",
        base_features=16,
        max_features=(128, 128),
        encoder_blocks=(2,),
        decoder_blocks=(1,),  # the finest one alone costs as much as the whole encoder
        reference_gb=8,
        reference_elements=(85e6, 560e6),
        step_gflop=70.0,
        padding_limit=1.25,
        light_augmentation=True,
        optimiser=OptimiserSettings(
            name="muon",
            learning_rate=4e-3,
            momentum=0.95,
            weight_decay=1e-2,
            schedule="poly",
            exponent=0.9,
            warmup_share=0.02,
            gradient_clip=12.0,
        ),
        training=TrainingSettings(
            epochs=100, steps_per_epoch=100, validation_cases=4, validation_interval=10, ema_decay=0.99
        ),
    ),
    # Source: nnU-Net, doi:10.1038/s41592-020-01008-z, with the reference numbers of its version 2.
    "standard": Preset(
        default_gb=8.0,
        network="unet",
        base_features=32,
        max_features=(512, 320),
        encoder_blocks=(2,),
        decoder_blocks=(2,),
        reference_gb=8,
        reference_elements=(85e6, 560e6),
        optimiser=_NNUNET_OPTIMISER,
        training=_NNUNET_TRAINING,
    ),
    "large": replace(_RESIDUAL_L, fitting_batch=(2, 2)),
    # Source: the residual encoder presets M, L and XL, arXiv 2404.09556.
    "residual_m": _RESIDUAL,
    "residual_l": _RESIDUAL_L,
    "residual_xl": replace(_RESIDUAL, default_gb=40.0, reference_gb=40, reference_elements=(560e6, 3.6e9)),
}

# Preset -> the planner of nnU-Net that it repeats under ``compat="nnunet"``.
NNUNET_PLANNERS: dict[PresetName, str] = {
    "standard": "ExperimentPlanner",
    "residual_m": "nnUNetPlannerResEncM",
    "residual_l": "nnUNetPlannerResEncL",
    "residual_xl": "nnUNetPlannerResEncXL",
}


def recommended_residual(memory_gb: float) -> PresetName | None:
    """The largest residual preset of nnU-Net's authors that is made for at most this memory.

    Source: arXiv 2404.09556.
    """
    names: tuple[PresetName, ...] = ("residual_xl", "residual_l", "residual_m")
    return next((name for name in names if PRESETS[name].default_gb <= memory_gb), None)


def check_class_weights(class_weights: str | None, compat: str | None) -> None:
    """Refuse class weights that a plan cannot have.

    Raises:
        UsageError: there is no such rule, or the plan is to be nnU-Net's, which has no class weights.
    """
    if class_weights not in (None, "frequency"):
        raise UsageError(f"unknown class weights '{class_weights}'; choose from: frequency, none")
    if class_weights is not None and compat is not None:
        raise UsageError("nnU-Net has no class weights; use --class-weights none or --compat none")


def find_preset(name: PresetName, compat: str | None = None) -> Preset:
    """The preset of that name, with our departures from nnU-Net or, with ``compat="nnunet"``, without them.

    Raises:
        UsageError: there is none, or nnU-Net has none like it; the message lists those there are.
    """
    if name not in PRESETS:
        raise UsageError(unknown_name("preset", name, PRESETS))
    if compat is None:
        return PRESETS[name]
    if compat != "nnunet":
        raise UsageError(f"unknown compatibility '{compat}'; choose from: nnunet, none")
    if name not in NNUNET_PLANNERS:
        raise UsageError(f"preset '{name}' is not one of nnU-Net's; choose from: {', '.join(NNUNET_PLANNERS)}")
    return replace(PRESETS[name], **_NO_DEPARTURES)
