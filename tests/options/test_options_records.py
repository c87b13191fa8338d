"""Records of options: values are converted and checked, and a record gives the command line that gives it back."""

from dataclasses import fields
from pathlib import Path

import pytest

from autoseg.cli import COMMANDS
from autoseg.cli.parser import build_parser, parse
from autoseg.core.errors import UsageError
from autoseg.options import (
    CompareOptions,
    EvaluateOptions,
    ImportOptions,
    PlanOptions,
    PredictOptions,
    RunOptions,
    SliceOptions,
    TrainOptions,
    command_line,
)
from autoseg.options.declaring import option_of

TRAIN = {"dataset": "Tiny", "configuration": "3d", "fold": "0"}


def test_text_becomes_the_value_that_the_field_holds():
    options = TrainOptions(dataset="Tiny", configuration="3d", fold=0, time_budget_s="1.5h", trackers="wandb")
    assert (options.fold, options.time_budget_s, options.trackers) == ("0", 5400.0, ("wandb",))
    assert EvaluateOptions(predictions="masks", references="labels").predictions == Path("masks")
    assert PredictOptions(scans="a", output="b", part="2/4").part == (2, 4)


@pytest.mark.parametrize(
    ("kind", "values", "sentence"),
    [
        (TrainOptions, {**TRAIN, "epochs": 0}, "--epochs: invalid integer '0'; use a whole number from 1"),
        (TrainOptions, {**TRAIN, "time_budget_s": "6 days"}, "--time-budget: invalid duration '6 days'; use 90s"),
        (
            TrainOptions,
            {**TRAIN, "device": "gpu"},
            "--device: invalid device 'gpu'; use auto, cpu, cuda, cuda:1 for the second GPU, or mps",
        ),
        (PlanOptions, {"dataset": "Tiny", "memory_gb": -8}, "--memory: invalid number '-8'; use a positive number"),
        (PlanOptions, {"dataset": "Tiny", "preset": "standart"}, r"--preset: unknown value 'standart' \(did you mean"),
        (PlanOptions, {"dataset": "Tiny", "mode": "head"}, "--mode, .* need --pretrained MODEL"),
        (PlanOptions, {"dataset": "Tiny", "keep": True, "replace": True}, "--keep and --replace exclude each other"),
        (
            PredictOptions,
            {"scans": "a", "output": "b", "step": 1e-9},
            "--step: invalid share of a tile '1e-09'; use a ",
        ),
        (PredictOptions, {"scans": "a", "output": "b", "step": "nan"}, "'nan'; use a number from 0.05 to 1"),
        (SliceOptions, {"dataset": "Tiny", "into": "Cut", "margin": (1,)}, "--margin: expected 2 values, got 1"),
        (EvaluateOptions, {"predictions": "masks"}, "give one of --references, --dataset"),
        (RunOptions, {"dataset": "Tiny", "learning_curve": (4,), "cluster": "local"}, "trains on this machine"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_what_to_write(kind, values, sentence):
    with pytest.raises(UsageError, match=sentence):
        kind(**values)


@pytest.mark.parametrize(
    "options",
    [
        TrainOptions(**TRAIN, time_budget_s=90.5, subset=8, restart=True, trackers=("wandb", "mlflow"), seed=-3),
        PlanOptions(dataset="Tiny", memory_gb=11.5, probe=False, networks=("dynunet",), time_budget_s="none"),
        PredictOptions(scans="my scans", output="masks", mirror=True, part=(2, 3), folds=("0", "all")),
        CompareOptions(folders=("a", "b"), dataset="Tiny", common_cases=True),
        SliceOptions(dataset="Tiny", into="Cut", margin=(1, 2)),
        ImportOptions(kind="msd", source="downloads", dataset="Tiny"),
        RunOptions(dataset="Tiny", learning_curve=(4, 8), target="lesion_f1", discard_probabilities=True),
    ],
    ids=lambda options: type(options).__name__,
)
def test_a_command_line_gives_the_options_back(options):
    parser = build_parser("autoseg_test", type(options), summary="", example="")
    again, _ = parse(parser, type(options), command_line(options))
    assert again == options


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_option_has_a_help_that_is_one_clause(command):
    for field in fields(command.options):
        text = option_of(field).help
        assert text
        assert not text.endswith("."), field.name
        assert "left out" not in text, field.name
