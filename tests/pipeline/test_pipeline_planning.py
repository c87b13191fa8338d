"""``autoseg_plan``: what it plans for, which folds it makes, and what it leaves alone."""

import json

import pytest
import torch

PLAN = ("plan", "-d", "Tiny", "--workers", 1)


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def read_plan(root):
    return json.loads((root / "autoseg_preprocessed" / "Tiny" / "plan.json").read_text())


# What nnU-Net would plan


def test_compatibility_means_standard_and_lasts(run, root):
    code, out, err = run(*PLAN, "--compat", "nnunet", "--root", root)
    assert code == 0
    assert "preset standard as nnU-Net plans" in out
    plan = read_plan(root)
    assert (plan["preset"], plan["compat"], plan["memory_gb"]) == ("standard", "nnunet", 8)
    assert plan["configurations"]["3d"]["preprocessing"]["orientation"] == "stored"
    _, _, err = run(*PLAN, "--root", root)
    assert "planning as before: preset standard as nnU-Net plans for 8 GB" in err
    assert read_plan(root) == plan
    run(*PLAN, "--memory", 6, "--root", root)
    assert (read_plan(root)["compat"], read_plan(root)["memory_gb"]) == ("nnunet", 6)


@pytest.mark.parametrize(
    ("argv", "preset", "memory_gb"),
    [(("--compat", "none"), "residual_m", 9), (("--preset", "pocket"), "pocket", 4)],
    ids=["none", "another preset"],
)
def test_compatibility_ends_where_it_is_said(run, root, argv, preset, memory_gb):
    run(*PLAN, "--compat", "nnunet", "--preset", "residual_m", "--memory", 9, "--root", root)
    assert (read_plan(root)["preset"], read_plan(root)["compat"]) == ("residual_m", "nnunet")
    code, _, err = run(*PLAN, *argv, "--root", root)
    assert code == 0
    assert "no longer as nnU-Net plans" in err
    assert (read_plan(root)["preset"], read_plan(root)["compat"]) == (preset, None)
    assert read_plan(root)["memory_gb"] == memory_gb


@pytest.mark.parametrize("preset", ["pocket", "large"])
def test_a_preset_that_nnunet_has_not(run, root, preset):
    code, _, err = run(*PLAN, "--compat", "nnunet", "--preset", preset, "--root", root)
    assert code == 2
    assert f"nnU-Net has no preset like '{preset}'; compatible are: standard, residual_m" in err
    assert not (root / "autoseg_preprocessed").exists()


def test_a_compatible_plan_trains(run, root):
    run(*PLAN, "--compat", "nnunet", "--root", root)
    argv = ("-d", "Tiny", "-c", "3d", "-f", 0, "--epochs", 1, "--steps-per-epoch", 1, "--device", "cpu")
    code, out, err = run("train", *argv, "--root", root)
    assert code == 0, err
    assert "dice" in out
