"""Options of every command, once each: parser, Python functions and docs/commands.md are made from these records."""

from autoseg.options.datasets import (
    CheckOptions,
    DemoOptions,
    ImportModelOptions,
    ImportOptions,
    InfoOptions,
    SliceOptions,
    VerifyOptions,
)
from autoseg.options.declaring import Options, command_line
from autoseg.options.planning import PlanOptions, SubsetOptions
from autoseg.options.prediction import CompareOptions, EvaluateOptions, PredictOptions, ReportOptions
from autoseg.options.shared import CommonOptions, LengthOptions, ScoringOptions
from autoseg.options.training import PretrainOptions, RunOptions, TrainOptions

__all__ = [
    "CheckOptions",
    "CommonOptions",
    "CompareOptions",
    "DemoOptions",
    "EvaluateOptions",
    "ImportModelOptions",
    "ImportOptions",
    "InfoOptions",
    "LengthOptions",
    "Options",
    "PlanOptions",
    "PredictOptions",
    "PretrainOptions",
    "ReportOptions",
    "RunOptions",
    "ScoringOptions",
    "SliceOptions",
    "SubsetOptions",
    "TrainOptions",
    "VerifyOptions",
    "command_line",
]
