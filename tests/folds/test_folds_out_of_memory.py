"""Memory that runs out while training: a sentence with what to type, and --fit, which goes on in less."""

import json
import shutil

import pytest
import torch

from autoseg.core.records import Configuration
from autoseg.folds import tasks
from autoseg.folds.files import read_history
from autoseg.losses import build_loss
from autoseg.model import load_plan
from autoseg.planning import reduce_memory
from autoseg.training import loop

TRAIN = ("train", "-d", "Tiny", "-c", "3d", "--epochs", "2", "--steps-per-epoch", "3")


@pytest.fixture
def short(monkeypatch):
    """From the fifth part on, no part may hold more than one sample."""
    calls = []

    def build(*args, **options):
        loss = build_loss(*args, **options)

        def scarce(outputs, target):
            calls.append(len(target))
            if len(calls) > 4 and len(target) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return loss(outputs, target)

        return scarce

    monkeypatch.setattr(tasks, "build_loss", build)
    return calls


def folder_of(root):
    return root / "autoseg_results" / "Tiny" / "3d"


def test_a_shortage_says_what_to_type_and_keeps_every_step(run, planned, short):
    code, _, err = run(*TRAIN, "-f", "0", "--root", planned)
    assert code == 2
    assert "ran out of memory at step 5 with 2 samples" in err
    assert "adding --fit to this command, or plan for less: autoseg_plan -d Tiny --preset pocket --memory 3.2" in err
    facts = json.loads((folder_of(planned) / "fold_0" / "fold.json").read_text())
    assert (facts["steps"], facts["finished"]) == (4, False)


def test_fit_goes_on_in_less_and_ends_where_the_other_would_have(run, planned, short, monkeypatch, tmp_path):
    shutil.copytree(planned, tmp_path / "usual")
    code, _, err = run(*TRAIN, "-f", "0", "--fit", "--root", planned)
    assert code == 0, err
    assert "resuming with activation checkpointing" in err
    assert "resuming with gradient accumulation in 2 parts" in err
    kept = load_plan(folder_of(planned)).configurations["3d"]
    assert kept.network.options["checkpointing"] is True
    assert kept.training.accumulation == 2
    assert short[-4:] == [1, 1, 1, 1]
    monkeypatch.undo()
    assert run(*TRAIN, "-f", "0", "--root", tmp_path / "usual")[0] == 0
    folds = [folder_of(root) / "fold_0" for root in (planned, tmp_path / "usual")]
    saving, usual = (json.loads((fold / "fold.json").read_text()) for fold in folds)
    assert all(saving[key] == usual[key] for key in ("epochs", "steps", "finished"))
    # Not the weights: a bias before a norm has no gradient but rounding, which Adam makes a step of.
    saving, usual = ([row["train_loss"] for row in read_history(fold)] for fold in folds)
    assert saving == pytest.approx(usual, rel=1e-4)


def test_other_folds_save_memory_as_well(run, planned, short):
    assert run(*TRAIN, "-f", "0", "--fit", "--root", planned)[0] == 0
    code, _, err = run(*TRAIN, "-f", "1", "--root", planned)
    assert code == 0, err
    assert "3d saves memory as an earlier --fit chose" in err


def test_when_nothing_is_left_the_plan_must_shrink(run, planned, monkeypatch):
    def refuse(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop, "training_step", refuse)
    code, _, err = run(*TRAIN, "-f", "0", "--fit", "--root", planned)
    assert code == 2
    assert "--fit has no exact saving left, so plan for less: autoseg_plan -d Tiny" in err


def test_sacrifices_come_one_by_one_and_end(planned):
    plan = json.loads((planned / "autoseg_preprocessed" / "Tiny" / "plan.json").read_text())
    configuration = Configuration.model_validate(plan["configurations"]["3d"] | {"batch_size": 6})
    told = []
    while (cheaper := reduce_memory(configuration)) is not None:
        configuration, how = cheaper
        told.append((configuration.training.accumulation, "activation checkpointing" in how))
    assert told == [(1, True), (2, False), (3, False), (6, False)]
