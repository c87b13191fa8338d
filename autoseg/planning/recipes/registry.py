"""The recipe record, and the registry of recipes: complete settings, except those that depend on the dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from autoseg.core.errors import UsageError
from autoseg.core.records import (
    AugmentationSettings,
    LossSettings,
    OptimiserSettings,
    Record,
    SamplingSettings,
    TrainingSettings,
    parse_record,
)
from autoseg.core.registry import unknown_name

FOLDER = Path(__file__).parent


class RecipeNetwork(Record):
    """A network, and its topology where the system states one; otherwise the plan's.

    Attributes:
        name: in the NETWORKS table.
        features: per stage, finest first.
        blocks: convolutions or blocks per stage, down and up.
        deep_supervision: also predict at coarser stages while training.
        options: specific to this network.
    """

    name: str
    features: tuple[PositiveInt, ...] = ()
    blocks: tuple[PositiveInt, PositiveInt] | None = None
    deep_supervision: bool = False
    options: dict[str, Any] = Field(default_factory=dict)


class Recipe(Record):
    """A published system as a configuration. The dataset's plan completes it.

    Attributes:
        system: its description in a few words.
        departs: one sentence on our differences from it, and why.
        metrics: that the system reports.
        assumed: keys of the configuration that the system does not state, and whose values are ours.
        dimensions: 2 or 3.
        patch_size: voxels per axis, ``case`` for the median case, or ``plan`` for the plan's.
        batch_size: samples per step.
        network: its architecture.
        loss: of labels that exclude each other.
        loss_of_regions: of regions that overlap.
        optimiser, training, sampling: complete settings. An epoch is one pass over the training cases' slices, or the
            cases themselves in 3D.
        augmentation: complete settings; None takes the plan's.
        orientation: of the axes; None takes the plan's.
    """

    system: str
    departs: str
    metrics: tuple[str, ...]
    assumed: tuple[str, ...] = ()
    dimensions: Literal[2, 3]
    patch_size: tuple[PositiveInt, ...] | Literal["case", "plan"]
    batch_size: PositiveInt
    network: RecipeNetwork
    loss: LossSettings
    loss_of_regions: LossSettings
    optimiser: OptimiserSettings
    training: TrainingSettings
    sampling: SamplingSettings
    augmentation: AugmentationSettings | None = None
    orientation: Literal["canonical", "stored"] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.patch_size, tuple) and len(self.patch_size) != self.dimensions:
            raise ValueError(f"patch_size needs {self.dimensions} numbers, not {len(self.patch_size)}")
        return self


def recipe_names() -> tuple[str, ...]:
    """Names of all recipes."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def read_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UsageError: there is none; the message lists those there are.
    """
    if name not in recipe_names():
        raise UsageError(unknown_name("recipe", name, recipe_names()))
    path = FOLDER / f"{name}.json"
    return parse_record(Recipe, path.read_bytes(), path=path, advice="install autoseg again")
