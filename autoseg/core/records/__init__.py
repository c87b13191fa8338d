"""The records: frozen, keyword-only, complete. JSON records are validated on the way in and on the way out."""

from autoseg.core.records.arrays import Lesions, PreparedCase
from autoseg.core.records.base import Record, parse_record, render_record, render_schema
from autoseg.core.records.data import Case, ChannelFile, Dataset, Fold, FoldRule, Folds
from autoseg.core.records.experiment import (
    BestModel,
    Calibration,
    CalibrationBin,
    Candidate,
    CaseDoubt,
    Doubt,
    DoubtfulLesion,
    Doubts,
    Experiment,
    PostProcessing,
)
from autoseg.core.records.facts import (
    CaseFacts,
    ChannelFacts,
    Fingerprint,
    IntensityFacts,
    LabelSummary,
    LesionFacts,
    LesionPositions,
    LesionSummary,
)
from autoseg.core.records.lesions import CaseLesions, LabelLesions, PredictedLesion
from autoseg.core.records.outputs import Outputs
from autoseg.core.records.plan import Configuration, MemoryFacts, Plan
from autoseg.core.records.scores import (
    CaseScores,
    PairedScores,
    Rank,
    ScoredCase,
    Scores,
    ScoresComparison,
    Statistics,
)
from autoseg.core.records.settings import (
    AugmentationSettings,
    ChannelNormalization,
    LossSettings,
    NetworkSettings,
    OptimiserSettings,
    PreprocessingSettings,
    SamplingSettings,
    TilingSettings,
    TrainingSettings,
)
from autoseg.core.records.space import Grid, Image, Label, Placement
from autoseg.core.records.subsets import Subsets
from autoseg.core.records.training import TrainedFold
from autoseg.core.records.transfer import Pretraining, TransferReport, TransferSettings

__all__ = [
    "AugmentationSettings",
    "BestModel",
    "Calibration",
    "CalibrationBin",
    "Candidate",
    "Case",
    "CaseDoubt",
    "CaseFacts",
    "CaseLesions",
    "CaseScores",
    "ChannelFacts",
    "ChannelFile",
    "ChannelNormalization",
    "Configuration",
    "Dataset",
    "Doubt",
    "DoubtfulLesion",
    "Doubts",
    "Experiment",
    "Fingerprint",
    "Fold",
    "FoldRule",
    "Folds",
    "Grid",
    "Image",
    "IntensityFacts",
    "Label",
    "LabelLesions",
    "LabelSummary",
    "LesionFacts",
    "LesionPositions",
    "LesionSummary",
    "Lesions",
    "LossSettings",
    "MemoryFacts",
    "NetworkSettings",
    "OptimiserSettings",
    "Outputs",
    "PairedScores",
    "Placement",
    "Plan",
    "PostProcessing",
    "PredictedLesion",
    "PreparedCase",
    "PreprocessingSettings",
    "Pretraining",
    "Rank",
    "Record",
    "SamplingSettings",
    "ScoredCase",
    "Scores",
    "ScoresComparison",
    "Statistics",
    "Subsets",
    "TilingSettings",
    "TrainedFold",
    "TrainingSettings",
    "TransferReport",
    "TransferSettings",
    "parse_record",
    "render_record",
    "render_schema",
]
