"""Decisions and their reasons. A configuration is complete: nothing inherited, nothing hidden in a class name."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from autoseg.core.choices import PresetName
from autoseg.core.records.base import Record
from autoseg.core.records.html import render_html_table
from autoseg.core.records.outputs import Outputs
from autoseg.core.records.settings import (
    AugmentationSettings,
    LossSettings,
    NetworkSettings,
    OptimiserSettings,
    PreprocessingSettings,
    SamplingSettings,
    ScoringSettings,
    TilingSettings,
    TrainingSettings,
)
from autoseg.core.records.transfer import TransferSettings

NEIGHBOUR = " at slice "  # in the name of an input that is a channel's neighbouring slice


class Configuration(Record):
    """One complete way to train and predict. To vary one, copy it under a new name and edit it.

    Attributes:
        dimensions: 2 (slices along the first axis) or 3.
        preprocessing, network, loss, optimiser, training, sampling, augmentation, tiling, scoring: complete settings.
        patch_size: voxels per axis of a training sample.
        batch_size: samples per step.
        context_slices: in 2D, neighbouring slices on either side that the network sees as further channels.
        cascade_from: name of the configuration whose prediction the network sees too, as extra input channels;
            None for a network that sees the scan alone.
        transfer: initial weights and how they are trained; None for random ones.
    """

    dimensions: Literal[2, 3]
    preprocessing: PreprocessingSettings
    patch_size: tuple[PositiveInt, ...]
    batch_size: PositiveInt
    network: NetworkSettings
    loss: LossSettings
    optimiser: OptimiserSettings
    training: TrainingSettings
    sampling: SamplingSettings
    augmentation: AugmentationSettings
    tiling: TilingSettings
    scoring: ScoringSettings = ScoringSettings()
    context_slices: NonNegativeInt = 0
    cascade_from: str | None = None
    transfer: TransferSettings | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        sizes = {"patch_size": self.patch_size, "tiling.tile_size": self.tiling.tile_size}
        sizes |= {f"network.kernels[{i}]": k for i, k in enumerate(self.network.kernels)}
        sizes |= {f"network.strides[{i}]": s for i, s in enumerate(self.network.strides)}
        for i, stage in enumerate(self.training.stages):
            sizes |= {f"training.stages[{i}].{name}": getattr(stage, name) for name in ("patch_size", "factors")}
        for name, size in sizes.items():
            if len(size) != self.dimensions:
                raise ValueError(f"{name} needs {self.dimensions} numbers, not {len(size)}")
        divisors = [1] * self.dimensions
        for stride in self.network.strides:
            divisors = [d * s for d, s in zip(divisors, stride, strict=True)]
        for name in (name for name in sizes if name.endswith(("patch_size", "tile_size"))):
            if any(n % d for n, d in zip(sizes[name], divisors, strict=True)):
                raise ValueError(f"{name} {sizes[name]} must be multiples of {tuple(divisors)}, the network's strides")
        for batch in (self.batch_size, *(stage.batch_size for stage in self.training.stages)):
            if batch % self.training.accumulation:
                raise ValueError(f"training.accumulation {self.training.accumulation} must divide batch_size {batch}")
        if self.context_slices and self.dimensions == 3:
            raise ValueError("context_slices are for 2D; a 3D patch holds its neighbouring slices")
        if self.transfer is not None and (self.transfer.weights or self.network.options.get("weights")) is None:
            raise ValueError("transfer has no weights; set network.options.weights, or set transfer to null")
        axes = set(self.tiling.mirror_axes) | set(self.augmentation.mirror_axes)
        if axes - set(range(self.dimensions)):
            raise ValueError(f"mirror_axes must lie in 0..{self.dimensions - 1}")
        self.augmentation.check_channels(len(self.preprocessing.channels))
        weights = len(self.loss.deep_supervision_weights)
        outputs = len(self.network.features) - 1
        if self.network.deep_supervision and weights != outputs:
            raise ValueError(f"deep supervision needs {outputs} loss.deep_supervision_weights, not {weights}")
        return self

    @property
    def image_inputs(self) -> int:
        """Channels of the scan that the network sees, those of neighbouring slices included."""
        return len(self.preprocessing.channels) * (1 + 2 * self.context_slices)

    def of_stage(self, number: int) -> Configuration:
        """The configuration with patch and batch of a stage of its training; itself after the last stage."""
        if number == len(self.training.stages):
            return self
        stage = self.training.stages[number]
        return self.model_copy(update={"patch_size": stage.patch_size, "batch_size": stage.batch_size})


class MemoryFacts(Record):
    """Memory of a training step of one configuration on the device, in GB (1e9 bytes).

    Attributes:
        predicted_gb: by the estimator: weights, gradients, optimiser, activations and the device's own share.
        measured_gb: the most that a real step took where the plan was made, or None where none was run.
        device: what it was measured on.
    """

    predicted_gb: PositiveFloat
    measured_gb: PositiveFloat | None = None
    device: str | None = None


class MachineSpeed(Record):
    """Speed of real training steps.

    Attributes:
        device: what it was measured on.
        gflops_2d, gflops_3d, gflops_imagenet: billions of operations per second, in the faster precision; None where
            none was measured.
        bfloat16_gain_2d, bfloat16_gain_3d, bfloat16_gain_imagenet: how many times faster bfloat16 is than float32;
            None where it was not tried.
    """

    device: str
    gflops_2d: PositiveFloat | None = None
    gflops_3d: PositiveFloat | None = None
    gflops_imagenet: PositiveFloat | None = None
    bfloat16_gain_2d: PositiveFloat | None = None
    bfloat16_gain_3d: PositiveFloat | None = None
    bfloat16_gain_imagenet: PositiveFloat | None = None

    def gflops(self, dimensions: int) -> float | None:
        """Of steps with patches of so many axes, or of others where those were not measured."""
        flat, solid = self.gflops_2d, self.gflops_3d
        return (flat or solid) if dimensions == 2 else (solid or flat)

    def bfloat16_gain(self, dimensions: int) -> float:
        """Factor by which bfloat16 is faster; 1 where it was not tried."""
        return (self.bfloat16_gain_2d if dimensions == 2 else self.bfloat16_gain_3d) or 1.0

    def of_encoder(self) -> MachineSpeed:
        """The speed of slices on an encoder with ImageNet weights in the place of other slices, where measured."""
        update = {"gflops_2d": self.gflops_imagenet, "bfloat16_gain_2d": self.bfloat16_gain_imagenet}
        return self if self.gflops_imagenet is None else self.model_copy(update=update)


class Plan(Record):
    """Decisions for a dataset, and their reasons.

    Attributes:
        schema_version: format version (``schema`` on disk).
        dataset: its name.
        channels, labels, regions, ignore_label: as in the dataset.
        preset: ``pocket``, ``standard``, ``large``, or a residual-encoder preset of nnU-Net.
        memory_gb: the budget that patch and batch were fitted to.
        compat: ``nnunet`` when every choice that nnU-Net makes is nnU-Net's own; None when ours may depart from it.
        seed: of every random stream of training.
        networks: further networks that were requested; each has its own configurations (``3d_dynunet``).
        recipes: published systems that were requested; each is a configuration of that name.
        class_weights: ``frequency`` when class weights of the losses by frequency were requested.
        time_budget_s: seconds of one fold that the configurations were planned for; None for the preset's length.
        speed: of the machine that time and precision were planned on; None where they were not.
        recommended: the configuration to train first.
        reasons: ``"3d.patch_size"`` -> one sentence with the numbers that led there.
        memory: configuration -> what a training step needs, as far as it was predicted.
        configurations: by name.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    dataset: str
    channels: tuple[str, ...]
    labels: dict[str, int]
    regions: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    ignore_label: int | None = None
    preset: PresetName
    memory_gb: PositiveFloat
    compat: Literal["nnunet"] | None = None
    seed: int = 12345
    networks: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    class_weights: Literal["frequency"] | None = None
    time_budget_s: PositiveFloat | None = None
    speed: MachineSpeed | None = None
    recommended: str
    reasons: dict[str, str]
    memory: dict[str, MemoryFacts] = Field(default_factory=dict)
    configurations: dict[str, Configuration]

    @property
    def outputs(self) -> Outputs:
        """Meaning of the channels of a network's output."""
        return Outputs.of(self.labels, self.regions, self.ignore_label)

    @property
    def foreground(self) -> tuple[tuple[int, ...], ...]:
        """The label values that each foreground output unites, in the order of the outputs."""
        if self.regions:
            return tuple(self.regions.values())
        return tuple((value,) for value in self.outputs.values if value != 0)

    def mask_values(self, configuration: str) -> tuple[tuple[int, ...], ...]:
        """The label values of each mask that is an input of a configuration's network; empty unless it is a cascade."""
        return () if self.configurations[configuration].cascade_from is None else self.foreground

    def count_inputs(self, configuration: str) -> int:
        """Channels that a configuration's network sees."""
        return len(self.input_names(configuration))

    def input_names(self, configuration: str) -> tuple[str, ...]:
        """Names of the channels that a configuration's network sees, in its order.

        The scan's, each with its neighbouring slices if there are any, and in a cascade one mask per foreground output.
        """
        context = self.configurations[configuration].context_slices
        offsets = range(-context, context + 1)
        images = [name + (f"{NEIGHBOUR}{offset:+d}" if offset else "") for name in self.channels for offset in offsets]
        masks = [f"mask {number}" for number in range(len(self.mask_values(configuration)))]
        return *images, *masks

    def _repr_html_(self) -> str:
        """The configurations as a table, for notebooks."""
        rows = []
        for name, configuration in self.configurations.items():
            needed = self.memory.get(name)
            rows.append(
                (
                    f"{name} (recommended)" if name == self.recommended else name,
                    configuration.network.name,
                    " x ".join(map(str, configuration.patch_size)),
                    configuration.batch_size,
                    configuration.preprocessing.describe_spacing(),
                    None if needed is None else f"{needed.predicted_gb:.1f}",
                )
            )
        header = ("configuration", "network", "patch", "batch", "spacing", "memory (GB)")
        caption = f"Plan of {self.dataset}: {', '.join(self.channels)}, preset {self.preset}"
        return render_html_table(header, rows, caption=caption)

    @model_validator(mode="after")
    def _check(self) -> Self:
        Outputs.of(self.labels, self.regions, self.ignore_label)
        if self.recommended not in self.configurations:
            raise ValueError(f"recommended '{self.recommended}' is not among: {', '.join(self.configurations)}")
        for name, configuration in self.configurations.items():
            normalised = len(configuration.preprocessing.channels)
            if normalised != len(self.channels):
                raise ValueError(f"'{name}' normalises {normalised} channels, but the dataset has {len(self.channels)}")
            self._check_cascade(name, configuration.cascade_from)
        stray = sorted(set(self.memory) - set(self.configurations))
        if stray:
            raise ValueError(
                f"memory names '{stray[0]}', which is not a configuration; remove it, or rename it to one of: "
                f"{', '.join(self.configurations)}"
            )
        return self

    def _check_cascade(self, name: str, source: str | None) -> None:
        """Check that a cascade's first stage is another configuration and not a cascade."""
        if source is None:
            return
        candidates = [
            candidate for candidate, c in self.configurations.items() if candidate != name and c.cascade_from is None
        ]
        if source not in candidates:
            raise ValueError(
                f"'{name}' has cascade_from '{source}', which must be another configuration, not a cascade "
                f"itself: {', '.join(candidates) or 'there is none'}"
            )
