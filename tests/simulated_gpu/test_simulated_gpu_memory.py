"""Memory that really runs out: plans for the card that is there, --fit, and the probe, at several card sizes."""

import gc
import json

import numpy as np
import pytest
import torch

from autoseg.core.records import Fingerprint
from autoseg.core.store import read_record
from autoseg.folds import probing
from autoseg.folds.files import read_history
from autoseg.folds.probing import plan_and_probe
from autoseg.model import load_plan
from autoseg.planning import DEVICE_GB, make_plan, price_step

# On every case, so that nothing is predicted, which fills a card with as many tiles as it holds.
TRAIN = ("train", "-d", "Tiny", "-c", "3d", "-f", "all", "--epochs", "1", "--steps-per-epoch", "3")


def plan_of(root):
    return root / "autoseg_preprocessed" / "Tiny" / "plan.json"


def narrow(root):
    """A network whose activations need more memory than its weights; the CPU makes its batches."""
    plan = json.loads(plan_of(root).read_text())
    configuration = plan["configurations"]["3d"]
    configuration["network"]["features"] = [4 for _ in configuration["network"]["features"]]
    configuration["augmentation"]["device"] = "cpu"
    configuration["training"]["precision"] = "float32"
    plan_of(root).write_text(json.dumps(plan))


@pytest.fixture(scope="module")
def needed():
    """Filled once: most bytes that a training step had on the card."""
    return {}


@pytest.mark.parametrize(
    ("share", "saved"),
    [
        (1.05, ()),
        (0.8, ("activation checkpointing",)),
        (0.5, ("activation checkpointing", "gradient accumulation in 2 parts")),
        (0.2, None),
        (0.001, None),  # not even the weights
    ],
)
def test_fit_saves_as_much_as_the_card_asks_for(machine, planned, run, needed, share, saved):
    narrow(planned)
    card = machine(4).cards[0]
    if not needed:
        assert run(*TRAIN, "--restart", "--root", planned)[0] == 0
        needed["bytes"] = card.peak_allocated
    card.total = int(share * needed["bytes"])
    card.reset()
    code, _, err = run(*TRAIN, "--restart", "--fit", "--root", planned)
    if saved is None:
        assert code == 2, err
        assert "--fit has no exact saving left" in err
        assert "Traceback" not in err
        return
    assert code == 0, err
    assert [line.split("resuming with ")[1].strip() for line in err.splitlines() if "resuming with" in line] == [*saved]
    rows = read_history(planned / "autoseg_results" / "Tiny" / "3d" / "fold_all")
    assert np.isfinite(rows[0]["train_loss"])
    assert rows[0]["steps"] == 3
    kept = load_plan(planned / "autoseg_results" / "Tiny" / "3d").configurations["3d"]
    assert kept.training.accumulation == (2 if len(saved) == 2 else 1)


@pytest.fixture
def make(planned_template):
    """Budget -> a plan of the tiny dataset with a 3D network alone, and the budgets that were asked for."""
    path = planned_template / "autoseg_preprocessed" / "Tiny" / "fingerprint.json"
    fingerprint = read_record(Fingerprint, path, advice="")

    def plan(memory_gb):
        plan.budgets.append(memory_gb)
        made = make_plan(fingerprint, preset="pocket", memory_gb=memory_gb, cost=price_step)
        return made.model_copy(update={"configurations": {"3d": made.configurations["3d"]}})

    plan.budgets = []
    return plan


def test_the_probe_measures_what_the_card_counts(machine, make):
    machine(4)
    plan = plan_and_probe(make, 0.6, "cuda")
    facts = plan.memory["3d"]
    assert facts.device == "Simulated GPU 0"
    assert facts.measured_gb - DEVICE_GB == pytest.approx(facts.predicted_gb - DEVICE_GB, rel=0.25, abs=0.01)
    assert make.budgets == [0.6]


def test_the_probe_plans_for_less_until_the_card_holds_a_step(machine, make, monkeypatch):
    card = machine(4).cards[0]
    real = probing.probe_configuration

    def crowded(plan, name, device):
        """Other programs leave as much as a budget of half a gigabyte allows."""
        card.others = 0 if plan.memory_gb < 0.55 else card.total - 1_000_000
        return real(plan, name, device)

    monkeypatch.setattr(probing, "probe_configuration", crowded)
    plan = plan_and_probe(make, 0.6, "cuda")
    assert make.budgets == [0.6, 0.54]
    assert plan.memory_gb == 0.54
    gc.collect()
    assert torch.cuda.memory_allocated() == 0  # what failed left nothing on the card


@pytest.mark.parametrize(
    ("gigabytes", "used", "budget", "told"),
    [
        (8, 0, 8.0, "recommend preset residual_m"),
        (25.3, 1.5, 23.8, "has 25.3 GB, of which 1.5 GB are in use, so the plan is for 23.8 GB"),
        (85, 0, 85.0, "recommend preset residual_xl"),
        (4, 0, 4.0, "has 4 GB, so the plan is for 4 GB"),
    ],
)
def test_the_card_decides_the_first_plan(machine, root, run, gigabytes, used, budget, told):
    cards = machine(gigabytes)
    cards.cards[0].others = int(used * 1e9)
    code, _, err = run("plan", "-d", "Tiny", "--root", root, "--workers", 1, "--no-probe")
    assert code == 0, err
    plan = json.loads(plan_of(root).read_text())
    assert (plan["preset"], plan["memory_gb"]) == ("standard", budget)
    assert told in plan["reasons"]["preset"]
    cards.cards[0].others = int(3e9)  # a card that is busier now
    assert run("plan", "-d", "Tiny", "--root", root, "--workers", 1, "--no-probe")[0] == 0
    assert json.loads(plan_of(root).read_text()) == plan  # planned again, the budget and its reason stay


def test_a_memory_or_a_preset_that_is_asked_for_is_taken(machine, root, run):
    machine(80)
    for options, memory_gb in ((("--memory", 12), 12), (("--preset", "residual_l"), 24)):
        assert run("plan", "-d", "Tiny", "--root", root, "--workers", 1, "--no-probe", *options)[0] == 0
        plan = json.loads(plan_of(root).read_text())
        assert plan["memory_gb"] == memory_gb
        assert "preset" not in plan["reasons"]


def test_a_card_without_free_memory_is_one_sentence(machine, root, run):
    cards = machine(8)
    cards.cards[0].others = cards.cards[0].total
    code, _, err = run("plan", "-d", "Tiny", "--root", root, "--workers", 1)
    assert code == 2
    assert "all 8 GB of the GPU (Simulated GPU 0) are in use" in err


def test_a_plan_for_a_large_card_trains_on_a_small_one_with_fit(machine, root, run):
    """80 GB to 24 GB, in proportion: a card that does not hold the step that was planned for another."""
    big = machine(80).cards[0]
    assert run("plan", "-d", "Tiny", "--root", root, "--workers", 1, "--no-probe")[0] == 0
    plan = json.loads(plan_of(root).read_text())
    assert plan["memory_gb"] == 80
    narrow(root)
    assert run(*TRAIN, "--root", root)[0] == 0
    big.total = int(0.6 * big.peak_allocated)
    big.reset()
    code, _, err = run(*TRAIN, "--restart", "--root", root)
    assert code == 2
    assert "adding --fit to this command" in err
    gc.collect()  # of the process that failed, which ends elsewhere
    code, _, err = run(*TRAIN, "--restart", "--fit", "--root", root)
    assert code == 0, err
    assert "resuming with activation checkpointing" in err
