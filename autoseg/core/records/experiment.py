"""Result of an experiment: candidates on out-of-fold predictions, the winner, and its post-processing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from autoseg.core.records.base import Record
from autoseg.core.records.scores import Statistics


class PostProcessing(Record):
    """Post-processing of one label or region, applied in this order.

    Attributes:
        threshold: least probability of its voxels; None takes the most probable class, or 0.5 for a region.
        smallest_lesion_ml: lesions (26-connected) below this volume are removed.
        largest_lesions: only so many lesions stay, the largest ones; None for all.
        fill_holes: whether background enclosed by the mask is filled.
    """

    threshold: float | None = Field(default=None, gt=0, lt=1)
    smallest_lesion_ml: NonNegativeFloat = 0.0
    largest_lesions: PositiveInt | None = None
    fill_holes: bool = False


class ModelPostProcessing(Record):
    """``postprocessing.json`` of a model folder: chosen by the cases that its folds held out.

    Attributes:
        schema_version: format version (``schema`` on disk).
        settings: label or region -> its post-processing; empty where nothing improved held-out cases.
        reason: of the choice, one sentence.
        target_metric: the metric that decided, averaged over labels.
        empty_score: its value where both masks are empty.
        folds: names of the folds whose held-out cases decided.
        cases, patients: numbers of those.
        target_before, target_after: mean over cases as predicted, and with settings chosen on other patients, each
            label by itself.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    settings: dict[str, PostProcessing] = Field(default_factory=dict)
    reason: str
    target_metric: str
    empty_score: Literal["undefined", "one"]
    folds: tuple[str, ...]
    cases: NonNegativeInt
    patients: NonNegativeInt
    target_before: float | None = None
    target_after: float | None = None


class CalibrationBin(Record):
    """Voxels whose probability of being foreground lies between two bounds.

    Attributes:
        lower, upper: bounds of the probability.
        voxels: how many.
        confidence: their mean probability.
        frequency: the share of them that is foreground in the reference.
    """

    lower: float
    upper: float
    voxels: NonNegativeInt
    confidence: float | None
    frequency: float | None


class Calibration(Record):
    """Reliability of the probabilities of out-of-fold predictions.

    Attributes:
        temperature: the logits are divided by it; fitted to the voxels of all folds.
        fold_temperatures: fold -> temperature fitted to the other folds, with which ``error_after`` and ``bins_after``
            were measured on its voxels. Empty (one fold, or version 0.1): measured on the voxels that ``temperature``
            was fitted to.
        error_before, error_after: expected calibration error, without and with temperature.
        bins_before, bins_after: the reliability curve, without and with it.
    """

    temperature: PositiveFloat
    fold_temperatures: dict[str, PositiveFloat] = Field(default_factory=dict)
    error_before: float
    error_after: float
    bins_before: tuple[CalibrationBin, ...]
    bins_after: tuple[CalibrationBin, ...]


class Candidate(Record):
    """A configuration, or the mean of several, scored on the cases that its folds did not see.

    Attributes:
        members: names of the configurations.
        target: mean of the target metric over cases.
        lower, upper: bounds of its 95 % bootstrap interval, by patient; None with fewer than two patients.
        difference, p_value: to the winner (mean over cases; Wilcoxon by patient, Holm over candidates); None for the
            winner, and where no case has both.
        summary: label -> metric -> statistics, without post-processing.
    """

    members: tuple[str, ...]
    target: float | None
    lower: float | None
    upper: float | None
    difference: float | None = None
    p_value: float | None = None
    summary: dict[str, dict[str, Statistics]]


class DoubtfulLesion(Record):
    """A predicted lesion (26-connected component of the foreground) that is uncertain or that some networks miss.

    Attributes:
        centre: its centre of mass in the scan's world, (x,y,z) mm, LPS.
        volume_ml: its volume.
        probability: mean probability of its voxels of being foreground.
        agreement: share of the single networks' masks that touch it; None with one network.
    """

    centre: tuple[float, float, float]
    volume_ml: float
    probability: float
    agreement: float | None


class Doubt(Record):
    """Doubt about the mask of a case.

    Attributes:
        case: its id.
        disagreement: 1 - mean Dice between the foreground of the masks of each configuration, or each fold, alone; None
            with one mask.
        uncertain_ml: volume whose probability of being foreground lies between 0.2 and 0.8.
        uncertain_lesions: predicted lesions whose mean probability is below 0.6.
        target: the case's score, where it has a reference.
        reason: one sentence.
        expected_dice: expected Dice of the foreground if the probabilities are calibrated.
        lesions: predicted lesions that are uncertain, or that not all masks touch; most doubtful first, ten at most.
    """

    case: str
    disagreement: float | None
    uncertain_ml: float
    uncertain_lesions: NonNegativeInt
    target: float | None
    reason: str
    expected_dice: float | None = None
    lesions: tuple[DoubtfulLesion, ...] = ()


class CaseDoubt(Record):
    """Doubtful parts of the mask of a new scan.

    Attributes:
        schema_version: format version (``schema`` on disk).
        model: key of the model that made the mask.
        networks: number of single networks whose masks were compared.
        doubt: without a reason.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    model: str
    networks: NonNegativeInt
    doubt: Doubt

    @property
    def case(self) -> str:
        """Id of the case."""
        return self.doubt.case


class Doubts(Record):
    """``doubts.json`` beside the masks of new scans.

    Attributes:
        schema_version: format version (``schema`` on disk).
        cases: number of cases that were compared.
        doubts: cases for review, most doubtful first.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    cases: NonNegativeInt
    doubts: tuple[Doubt, ...]


class Experiment(Record):
    """``experiment.json`` of a dataset's results: everything that the choice is based on.

    Attributes:
        schema_version: format version (``schema`` on disk).
        dataset: its name.
        target_metric: the metric that decides, as in the METRICS table, averaged over labels.
        empty_score: overlap scores where both masks are empty.
        folds: names of the folds that were trained.
        candidates: name (``2d``, ``3d``, ``2d+3d``) -> its scores.
        winner: name of the candidate that was chosen.
        reason: of the choice, one sentence.
        postprocessing: label or region -> its post-processing; empty where nothing improved held-out cases.
        target_before, target_after: the winner's target metric without and with post-processing, each case with
            settings chosen on the other folds; with one fold, on other patients.
        calibration: of the winner; None where no voxel was predicted.
        doubts: most doubtful first.
        elapsed_s: seconds of all trainings, predictions and scores together.
        versions: of autoseg and torch.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    dataset: str
    target_metric: str
    empty_score: Literal["undefined", "one"]
    folds: tuple[str, ...]
    candidates: dict[str, Candidate]
    winner: str
    reason: str
    postprocessing: dict[str, PostProcessing] = Field(default_factory=dict)
    target_before: float | None
    target_after: float | None
    calibration: Calibration | None = None
    doubts: tuple[Doubt, ...] = ()
    elapsed_s: float
    versions: dict[str, str]


class BestModel(Record):
    """``best.json`` of ``autoseg_results/<dataset>/best/``: the members are beside it, each a model folder.

    Attributes:
        schema_version: format version (``schema`` on disk).
        dataset: its name.
        members: names of the model folders, whose probabilities are averaged.
        postprocessing: as in the experiment.
        temperature: of the probabilities; it does not change which class is the most probable one.
        reliable: whether a Dice can be expected from the calibrated probabilities; version 0.1 did not ask.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    dataset: str
    members: tuple[str, ...]
    postprocessing: dict[str, PostProcessing] = Field(default_factory=dict)
    temperature: PositiveFloat = 1.0
    reliable: bool = True
