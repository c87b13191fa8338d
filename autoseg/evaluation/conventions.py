"""Scoring conventions: metrics, and their values where the challenges disagree. The PRESETS table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from autoseg.core.errors import PlanError, UsageError
from autoseg.core.records import Dataset, ScoringSettings
from autoseg.core.registry import unknown_name
from autoseg.metrics import METRICS, EmptyScore

DEFAULT_METRICS = (
    "dice",
    "iou",
    "precision",
    "sensitivity",
    "specificity",
    "hd95",
    "volume_difference_ml",
    "lesion_f1",
)

Adapt = Callable[[Dataset], tuple[Dataset, tuple[str, ...]]]


@dataclass(frozen=True, kw_only=True)
class Convention:
    """Rules by which masks are scored.

    Attributes:
        metrics: names from the METRICS table.
        preset: the challenge it follows; None for none.
        empty_score: what the overlap scores give where both masks are empty.
        penalty_mm: what distances give where one mask is empty, and where a prediction is missing; None leaves the
            first undefined and takes the grid's diagonal for the second.
        rules: what is done to the masks before they are scored, one sentence each.
    """

    metrics: tuple[str, ...] = DEFAULT_METRICS
    preset: str | None = None
    empty_score: EmptyScore = "undefined"
    penalty_mm: float | None = None
    rules: tuple[str, ...] = ()


def unchanged(dataset: Dataset) -> tuple[Dataset, tuple[str, ...]]:
    """Leave labels and regions as the dataset has them."""
    return dataset, ()


def ignore_other_pathology(dataset: Dataset) -> tuple[Dataset, tuple[str, ...]]:
    """Ignore label 2 of the WMH challenge, other pathology.

    Source: doi:10.1109/TMI.2019.2905770.
    """
    if 2 not in dataset.labels.values() or dataset.ignore_label is not None:
        return dataset, ()
    labels = {name: value for name, value in dataset.labels.items() if value != 2}
    rule = "where the reference holds label 2 (other pathology), neither mask counts"
    return dataset.model_copy(update={"labels": {**labels, "ignore": 2}, "ignore_label": 2}), (rule,)


def unite_tumour_parts(dataset: Dataset) -> tuple[Dataset, tuple[str, ...]]:
    """Unite labels to the regions of BraTS, where a dataset has the three labels and no regions of its own.

    Source: doi:10.1109/TMI.2014.2377694. The enhancing part is 4 until 2022 and 3 since.
    """
    values = set(dataset.labels.values()) - {0, dataset.ignore_label}
    if dataset.regions or len(values) < 2 or not (values <= {1, 2, 3} or values <= {1, 2, 4}):
        return dataset, ()
    enhancing = 4 if 4 in values else 3
    regions = {"whole_tumour": (1, 2, enhancing), "tumour_core": (1, enhancing), "enhancing_tumour": (enhancing,)}
    united = ", ".join(f"{name} {{{', '.join(map(str, members))}}}" for name, members in regions.items())
    return dataset.model_copy(update={"regions": regions}), (f"labels are united to regions: {united}",)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A challenge's metrics and conventions, and how it treats a dataset's labels."""

    convention: Convention
    adapt: Adapt = unchanged


PRESETS = {
    "isles22": Preset(
        convention=Convention(
            metrics=("dice", "volume_difference_ml", "lesion_count_difference", "lesion_f1"), empty_score="one"
        )
    ),
    "isles24": Preset(
        convention=Convention(
            metrics=("dice", "volume_difference_ml", "lesion_count_difference", "lesion_f1_iou20"), empty_score="one"
        )
    ),
    "atlas": Preset(
        convention=Convention(
            metrics=("dice", "volume_difference_voxels", "lesion_count_difference_faces", "lesion_f1_faces"),
            empty_score="one",
        )
    ),
    "brats": Preset(
        convention=Convention(
            metrics=("lesionwise_dice", "lesionwise_hd95", "dice", "hd95", "sensitivity", "specificity"),
            empty_score="one",
            penalty_mm=374.0,
        ),
        adapt=unite_tumour_parts,
    ),
    "wmh": Preset(
        convention=Convention(
            metrics=("dice", "hd95_in_plane", "volume_difference_percent", "lesion_recall", "lesion_f1_wmh"),
        ),
        adapt=ignore_other_pathology,
    ),
    # As systems scored by slice do: an empty answer to an empty slice is right.
    "slices": Preset(
        convention=Convention(
            metrics=("dice", "iou", "accuracy", "precision", "sensitivity", "specificity"), empty_score="one"
        )
    ),
    "nnunet": Preset(convention=Convention(metrics=("dice", "iou"))),
}


def apply_preset(name: str, dataset: Dataset) -> tuple[Dataset, Convention]:
    """The dataset as a challenge scores it, and the challenge's convention.

    Raises:
        UsageError: there is no such preset.
    """
    if name not in PRESETS:
        raise UsageError(unknown_name("preset", name, PRESETS))
    preset = PRESETS[name]
    dataset, rules = preset.adapt(dataset)
    return dataset, replace(preset.convention, preset=name, rules=rules)


def apply_scoring(
    settings: ScoringSettings, dataset: Dataset, *, with_probabilities: bool
) -> tuple[Dataset, Convention]:
    """The dataset and the convention by which a configuration is scored.

    Args:
        settings: ``scoring`` of the configuration.
        dataset: the references.
        with_probabilities: class probabilities will lie beside the masks.

    Raises:
        UsageError: a preset or metric that does not exist.
        PlanError: a metric that masks alone do not give.
    """
    dataset, convention = apply_preset(settings.preset, dataset) if settings.preset else (dataset, Convention())
    for name in settings.metrics:
        if METRICS[name].needs_probability and not with_probabilities:
            raise PlanError(
                f"scoring.metrics names {name}, which needs class probabilities; train with --probabilities, or remove "
                f"it from the plan"
            )
    return dataset, replace(convention, metrics=tuple(dict.fromkeys((*convention.metrics, *settings.metrics))))
