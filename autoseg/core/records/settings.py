"""Settings of a configuration: preprocessing, network, loss, training, tiles and scores."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from autoseg.core.choices import SMALLEST_STEP, Region
from autoseg.core.records.base import Record

Share = Field(ge=0, le=1)
Size = Annotated[int, Field(ge=1, le=128)]  # of a kernel, a stride or a stage; no network has larger ones
Range = tuple[float, float]


class ChannelNormalization(Record):
    """Intensity normalisation of one channel, before resampling.

    Attributes:
        scheme: ``zscore`` per image; ``ct`` clip to the dataset's percentiles, then the dataset's mean and std;
            ``rescale`` to 0-1; ``rgb`` divide by 255; ``none``.
        inside_mask: use and change only voxels inside the non-zero mask (z-score), outside stays 0.
        mean, std, lower, upper: the dataset's foreground statistics, used by ``ct``.
    """

    scheme: Literal["zscore", "ct", "rescale", "rgb", "none"] = "zscore"
    inside_mask: bool = False
    mean: float | None = None
    std: float | None = None
    lower: float | None = None
    upper: float | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.scheme == "ct" and None in (self.mean, self.std, self.lower, self.upper):
            raise ValueError("scheme 'ct' needs mean, std, lower and upper")
        return self


class PreprocessingSettings(Record):
    """From the scan's own grid to the network's; configurations with equal settings share one set of arrays.

    Attributes:
        region: what a scan is cropped to, and its intensities are measured in: where any channel is not zero
            (``nonzero``), or the ``head``, for scans whose background is not zero.
        orientation: ``canonical`` turns axes to the nearest (I->S, A->P, R->L) order first; ``stored`` leaves them.
        axis_order: permutation after that, the lowest-resolution axis first.
        spacing: target mm per axis, after ``axis_order``; None keeps the scan's own.
        channels: normalisation per channel.
        image_order, label_order, probability_order: spline order of the interpolation (0, 1 or 3).
        coarse_axis_ratio: above this max/min spacing the coarse axis is resampled apart, nearest neighbour.
        storage: type of the voxels on disk. ``float16`` halves the size and changes a value by at most 1/2048 of it;
            a case that would lose more than a thousandth of its contrast stays ``float32``.
    """

    region: Region = "nonzero"
    orientation: Literal["canonical", "stored"] = "canonical"
    axis_order: tuple[int, int, int] = (0, 1, 2)
    spacing: tuple[PositiveFloat | None, PositiveFloat | None, PositiveFloat | None]
    channels: tuple[ChannelNormalization, ...]
    image_order: Literal[0, 1, 3] = 3
    label_order: Literal[0, 1] = 1
    probability_order: Literal[0, 1] = 1
    coarse_axis_ratio: PositiveFloat = 3.0
    storage: Literal["float32", "float16"] = "float32"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sorted(self.axis_order) != [0, 1, 2]:
            raise ValueError(f"axis_order must hold 0, 1 and 2 once each, not {self.axis_order}")
        return self

    def describe_spacing(self) -> str:
        """The target spacing: ``5 x 1 x 1 mm``, or ``1 x 1 mm in plane`` where slices stay as they were scanned."""
        stated = " x ".join("as scanned" if mm is None else f"{mm:.4g}" for mm in self.spacing)
        return f"{stated.removeprefix('as scanned x ')} mm in plane" if self.spacing[0] is None else f"{stated} mm"


class NetworkSettings(Record):
    """A planned network; one entry per stage, finest first, one number per spatial axis.

    Attributes:
        name: in the NETWORKS table.
        features: channels per stage.
        kernels: convolution kernel per stage and axis.
        strides: downsampling on entering each stage, per axis; all 1 in the first.
        encoder_blocks: convolutions (or residual blocks) per stage.
        decoder_blocks: the same on the way up, one fewer.
        deep_supervision: also predict at every coarser decoder stage while training.
        options: settings that only this network has.
    """

    name: str
    features: tuple[Annotated[int, Field(ge=1, le=16384)], ...] = Field(max_length=20)
    kernels: tuple[tuple[Size, ...], ...]
    strides: tuple[tuple[Size, ...], ...]
    encoder_blocks: tuple[Size, ...]
    decoder_blocks: tuple[Size, ...]
    deep_supervision: bool = True
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        stages = len(self.features)
        lengths = {len(self.kernels), len(self.strides), len(self.encoder_blocks), len(self.decoder_blocks) + 1}
        if lengths != {stages}:
            raise ValueError(
                f"features has {stages} stages, so kernels, strides and encoder_blocks need {stages} entries "
                f"and decoder_blocks {stages - 1}"
            )
        return self


class LossSettings(Record):
    """Loss and its options.

    Attributes:
        name: in the LOSSES table.
        options: its arguments.
        deep_supervision_weights: weight of each network output, finest first; empty means only the finest counts.
    """

    name: str = "dice_ce"
    options: dict[str, Any] = Field(default_factory=dict)
    deep_supervision_weights: tuple[NonNegativeFloat, ...] = ()


class OptimiserSettings(Record):
    """Optimiser and learning-rate schedule.

    Attributes:
        name: ``sgd`` (Nesterov), ``adam``, ``adamw`` or ``muon``.
        learning_rate, momentum, weight_decay: momentum is used by ``sgd``; the others take it as beta 1.
        schedule: ``poly`` = learning_rate * (1 - progress)^exponent, progress by steps, or by time with a time budget;
            ``cosine``; ``constant``; ``step`` = times ``factor`` after every ``step_share`` of the training;
            ``plateau`` = times ``factor`` whenever ``watch`` has not improved ``patience`` times in a row.
        exponent: of ``poly``.
        factor: of ``step`` and ``plateau``.
        step_share: of ``step``; share of the training, after the warm-up, between two drops.
        patience: of ``plateau``; validations, or epochs where it watches the loss.
        watch: of ``plateau``; the loss is watched as a moving average over epochs.
        warmup_share: share of the training over which the rate rises from 0.
        gradient_clip: largest gradient norm; None does not clip.
    """

    name: Literal["sgd", "adam", "adamw", "muon"] = "sgd"
    learning_rate: PositiveFloat = 1e-2
    momentum: float = Field(default=0.99, ge=0, lt=1)
    weight_decay: NonNegativeFloat = 3e-5
    schedule: Literal["poly", "cosine", "constant", "step", "plateau"] = "poly"
    exponent: PositiveFloat = 0.9
    factor: float = Field(default=0.1, gt=0, lt=1)
    step_share: float = Field(default=0.25, gt=0, le=1)
    patience: PositiveInt = 10
    watch: Literal["validation_dice", "train_loss"] = "validation_dice"
    warmup_share: float = Field(default=0.0, ge=0, lt=1)
    gradient_clip: PositiveFloat | None = 12.0


class TrainingStage(Record):
    """A first part of a training, on a coarser grid or on smaller patches than the rest.

    Attributes:
        until: share of the training, by steps or by time, at which it ends.
        factors: how many times coarser than the configuration's own each axis of the patch is; images are averaged
            over so many voxels, and a voxel of the label is the most frequent value.
        patch_size: voxels per axis of a sample, on that grid.
        batch_size: samples per step.
    """

    until: float = Field(gt=0, lt=1)
    factors: tuple[PositiveInt, ...]
    patch_size: tuple[PositiveInt, ...]
    batch_size: PositiveInt


class TrainingSettings(Record):
    """Length and precision of a training.

    Attributes:
        epochs, steps_per_epoch: one checkpoint and one line of history an epoch.
        checkpoint_minutes: longest time between two checkpoints, where epochs are longer.
        validation_cases: whole held-out volumes predicted at each validation; 0 never validates while training.
        validation_interval: epochs between them; the weights of the best mean Dice stay in the checkpoint, but the
            model is made of the last ones: choosing by the held-out cases would flatter their scores.
        ema_decay: decay per step of the averaged weights that are validated and kept; 0 uses the weights themselves.
        precision: ``auto`` is bfloat16 or float16 on a GPU and float32 on a CPU.
        acceleration: how the network is computed: ``none`` as it is written, ``channels_last`` in memory, ``compile``
            by torch.compile; ``auto`` times them on a GPU and takes the fastest, and is ``none`` on a CPU.
        accumulation: number of parts of a batch that pass the network one after the other; their gradients are added,
            so that the step is the same but needs the memory of one part. It must divide the batch size.
        stop_patience: validations in a row without improvement after which the training ends early, with the weights it
            has then; None always trains its full length.
        min_improvement: what a validation Dice must exceed the best by to count as one, here and for ``plateau``.
        time_budget_s: seconds of training instead of ``epochs``; None trains the epochs.
        stages: coarser or smaller beginnings, one after the other; the rest of the training is the configuration's own.
            Nothing is validated before that. Source: Fischer et al. 2024, arXiv:2407.07853.
    """

    epochs: PositiveInt = 1000
    steps_per_epoch: PositiveInt = 250
    checkpoint_minutes: PositiveFloat = 5.0
    validation_cases: int = Field(default=8, ge=0)
    validation_interval: PositiveInt = 5
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    acceleration: Literal["auto", "none", "channels_last", "compile"] = "auto"
    accumulation: PositiveInt = 1
    stop_patience: PositiveInt | None = None
    min_improvement: NonNegativeFloat = 0.0
    time_budget_s: PositiveFloat | None = None
    stages: tuple[TrainingStage, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        ends = [stage.until for stage in self.stages]
        if sorted(set(ends)) != ends:
            raise ValueError(f"training.stages must end one after the other, not at {ends}")
        return self

    def stage_at(self, progress: float) -> int:
        """Number of the stage at a point of the training; ``len(stages)`` for the configuration's own."""
        return sum(progress >= stage.until for stage in self.stages)


class SamplingSettings(Record):
    """Sampling of patches: shares of each batch; the rest is drawn uniformly over the volume.

    Attributes:
        foreground_share: centred on a voxel of a label (label uniform, then voxel uniform): large lesions dominate.
        lesion_share: centred on a lesion (lesion uniform, then voxel uniform): small ones are seen as often as large.
        empty_case_share: share of all samples that come from cases without any lesion; they take the places in a batch
            that are centred on nothing first. None draws every case alike.
        slices: of 2D samples that are centred on nothing: ``all`` slices alike, ``lesion`` those alike that hold one,
            ``area`` those in proportion to its area. A case without any gives all its slices alike.
        slice_margin: slices left out at either end of the first axis; a case that has no more keeps its middle one.
    """

    foreground_share: float = Share
    lesion_share: float = Share
    empty_case_share: float | None = Field(default=None, ge=0, le=1)
    slices: Literal["all", "lesion", "area"] = "all"
    slice_margin: tuple[NonNegativeInt, NonNegativeInt] = (0, 0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.foreground_share + self.lesion_share > 1:
            raise ValueError("foreground_share and lesion_share add up to more than 1")
        return self


class _Limits(NamedTuple):
    """Type of a range's numbers; ``low`` itself is allowed only if ``closed``."""

    low: float
    closed: bool
    high: float = math.inf


_LIMITS = {
    "rotation_degrees": _Limits(-math.inf, True),
    "scale": _Limits(0, False),
    "noise_variance": _Limits(0, True),
    "blur_sigma": _Limits(0, True),
    "brightness": _Limits(0, True),
    "contrast": _Limits(0, True),
    "low_resolution": _Limits(0, False, 1),
    "gamma": _Limits(0, False),
    "mask_shape_radius": _Limits(1, True),
}


class AugmentationSettings(Record):
    """Random changes of a training patch, in this order, each with its probability and range.

    Attributes:
        rotation_degrees: per axis of the patch (3D), or one range in the plane (2D and ``in_plane``).
        in_plane: rotate and scale within the last two axes only (a coarse first axis).
        scale: zoom factor.
        elastic_probability: smooth random displacement; off by default.
        mirror_axes: axes flipped with probability one half each.
        substitution_probability: one of the ``substitutions`` is made.
        substitutions: each names, channel by channel, the channel that stands there instead; (0, 0, 2) puts the first
            channel in the place of the second.
        mask_shape_probability: in a cascade, every mask channel is dilated, eroded, opened or closed.
        mask_shape_radius: smallest and largest radius of the ball that does it, voxels; whole numbers.
        mask_removal_probability: in a cascade, every mask channel loses one connected component that is not large.
        *_per_channel: probability that each channel takes part, given that the change applies.
        device: where patches are changed: ``cpu`` by threads beside the network, ``gpu`` on the GPU that trains;
            ``auto`` lets a short timing decide where there is a GPU.
    """

    rotation_probability: float = Share
    rotation_degrees: Range
    in_plane: bool = False
    scale_probability: float = Share
    scale: Range = (0.7, 1.4)
    elastic_probability: float = Field(default=0.0, ge=0, le=1)
    noise_probability: float = Field(default=0.1, ge=0, le=1)
    noise_variance: Range = (0.0, 0.1)
    blur_probability: float = Field(default=0.2, ge=0, le=1)
    blur_per_channel: float = Field(default=0.5, ge=0, le=1)
    blur_sigma: Range = (0.5, 1.0)
    brightness_probability: float = Field(default=0.15, ge=0, le=1)
    brightness: Range = (0.75, 1.25)
    contrast_probability: float = Field(default=0.15, ge=0, le=1)
    contrast: Range = (0.75, 1.25)
    low_resolution_probability: float = Field(default=0.25, ge=0, le=1)
    low_resolution_per_channel: float = Field(default=0.5, ge=0, le=1)
    low_resolution: Range = (0.5, 1.0)
    bias_field_probability: float = Field(default=0.0, ge=0, le=1)
    bias_field: NonNegativeFloat = 0.3
    inverted_gamma_probability: float = Field(default=0.1, ge=0, le=1)
    gamma_probability: float = Field(default=0.3, ge=0, le=1)
    gamma: Range = (0.7, 1.5)
    mirror_axes: tuple[int, ...]
    substitution_probability: float = Field(default=0.0, ge=0, le=1)
    substitutions: tuple[tuple[NonNegativeInt, ...], ...] = ()
    mask_shape_probability: float = Field(default=0.0, ge=0, le=1)
    mask_shape_radius: tuple[PositiveInt, PositiveInt] = (1, 8)
    mask_removal_probability: float = Field(default=0.0, ge=0, le=1)
    device: Literal["auto", "cpu", "gpu"] = "auto"

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, limits in _LIMITS.items():
            low, high = getattr(self, name)
            actual = f"not [{low:g}, {high:g}]"
            edge = f"at {limits.low:g} or above" if limits.closed else f"above {limits.low:g}"
            if low > high:
                raise ValueError(f"{name} must be [smallest, largest], {actual}")
            if low < limits.low or (low == limits.low and not limits.closed):
                raise ValueError(f"{name} must begin {edge}, {actual}")
            if high > limits.high:
                raise ValueError(f"{name} must end at {limits.high:g} or below, {actual}")
        if self.substitution_probability and not self.substitutions:
            raise ValueError("substitution_probability is above 0, but there are no substitutions")
        return self

    def check_channels(self, channels: int) -> None:
        """Raise a ValueError where a substitution does not name one of the channels for each."""
        for sources in self.substitutions:
            if len(sources) != channels or max(sources) >= channels:
                raise ValueError(f"augmentation.substitutions: {sources} must name {channels} of 0..{channels - 1}")


class TilingSettings(Record):
    """Sliding-window prediction.

    Attributes:
        tile_size: voxels per axis of the network's input.
        step: distance between tiles as a share of the tile.
        sigma: width of the Gaussian weight as a share of the tile.
        mirror_axes: axes flipped for test-time mirroring, in all combinations; empty means none.
    """

    tile_size: tuple[PositiveInt, ...]
    step: float = Field(default=0.5, ge=SMALLEST_STEP, le=1)
    sigma: PositiveFloat = 0.125
    mirror_axes: tuple[int, ...] = ()


class ScoringSettings(Record):
    """Metrics for the masks of held-out cases at the end of a training.

    Attributes:
        preset: of ``autoseg_evaluate``, whose metrics and conventions are followed; None follows our own.
        metrics: names from the METRICS table, beside those of the preset or our own.
    """

    preset: str | None = None
    metrics: tuple[str, ...] = ()
