"""Preprocessed voxels in half precision: made where the plan says so, trained on, predicted from."""

import json

import numpy as np
import pytest
from numpy.lib import format as npy

from autoseg.core.records import ChannelNormalization, Configuration, PreprocessingSettings
from autoseg.preparation import arrays_folder

SETTINGS = PreprocessingSettings(spacing=(3.0, 1.0, None), channels=(ChannelNormalization(inside_mask=True),))
TRAIN = ("train", "-d", "Tiny", "-c", "3d", "-f", 0, "--epochs", 1, "--steps-per-epoch", 2, "--device", "cpu")


def edit_plan(root, **preprocessing):
    path = root / "autoseg_preprocessed" / "Tiny" / "plan.json"
    plan = json.loads(path.read_text())
    plan["configurations"]["3d"]["preprocessing"] |= preprocessing
    path.write_text(json.dumps(plan))
    return Configuration.model_validate(plan["configurations"]["3d"], strict=False).preprocessing


def read_dtypes(folder):
    """Case -> how its image lies on disk."""
    found = {}
    for path in folder.glob("*.image.npy"):
        with path.open("rb") as file:
            npy.read_magic(file)
            found[path.name.split(".")[0]] = npy.read_array_header_1_0(file)[2]
    return found


def test_arrays_made_before_there_was_a_choice_keep_their_name(tmp_path):
    assert arrays_folder(tmp_path, SETTINGS).name == "arrays_14f0afb158ec"
    halved = SETTINGS.model_copy(update={"storage": "float16"})
    assert arrays_folder(tmp_path, halved) != arrays_folder(tmp_path, SETTINGS)


def test_a_plan_without_the_key_means_float32(run, planned):
    path = planned / "autoseg_preprocessed" / "Tiny" / "plan.json"
    plan = json.loads(path.read_text())
    for configuration in plan["configurations"].values():
        assert configuration["preprocessing"].pop("storage") == "float32"
    path.write_text(json.dumps(plan))
    before = {p.name: p.stat().st_mtime_ns for p in path.parent.glob("arrays_*/*")}
    code, _, err = run("plan", "-d", "Tiny", "--keep", "--workers", 1, "--root", planned)
    assert code == 0
    assert "preprocessing" not in err
    assert {p.name: p.stat().st_mtime_ns for p in path.parent.glob("arrays_*/*")} == before


def test_half_precision_is_made_trained_on_and_predicted_from(run, planned):
    folder = planned / "autoseg_preprocessed" / "Tiny"
    full = arrays_folder(folder, edit_plan(planned))
    before = {path.name: np.load(path) for path in full.glob("*.image.npy")}
    halved = arrays_folder(folder, edit_plan(planned, storage="float16"))
    code, _, err = run("plan", "-d", "Tiny", "--keep", "--workers", 1, "--root", planned)
    assert code == 0, err
    assert set(read_dtypes(halved).values()) == {np.dtype(np.float16)}
    for name, image in before.items():
        error = np.abs(np.load(halved / name).astype(np.float32) - image)
        assert np.all(error <= np.maximum(np.abs(image) / 2048, 3e-8))
    code, out, err = run(*TRAIN, "--root", planned)
    assert code == 0, err
    assert "dice" in out


def test_a_case_that_half_precision_cannot_hold_is_stored_as_it_is(run, root):
    raw = root / "autoseg_raw" / "Tiny" / "dataset.json"
    facts = json.loads(raw.read_text())
    raw.write_text(json.dumps({**facts, "channel_names": {"0": "noNorm", "1": "T1"}}))
    run("plan", "-d", "Tiny", "--preset", "pocket", "--workers", 1, "--root", root)
    settings = edit_plan(root, storage="float16")
    assert settings.channels[0].scheme == "none"
    code, _, err = run("plan", "-d", "Tiny", "--keep", "--workers", 1, "--root", root)
    assert code == 0, err
    folder = arrays_folder(root / "autoseg_preprocessed" / "Tiny", settings)
    # Scanner units around 100 with a deviation of 5: rounding would move them by a three-hundredth of that.
    assert read_dtypes(folder)["case1"] == np.dtype(np.float32)
    code, _, err = run(*TRAIN, "--root", root)
    assert code == 0, err


@pytest.mark.parametrize("storage", ["float64", "npy"])
def test_another_storage_is_refused_with_those_there_are(run, planned, storage):
    path = planned / "autoseg_preprocessed" / "Tiny" / "plan.json"
    path.write_text(path.read_text().replace('"storage": "float32"', f'"storage": "{storage}"'))
    code, _, err = run("plan", "-d", "Tiny", "--keep", "--workers", 1, "--root", planned)
    assert code == 2
    assert "preprocessing.storage" in err
    assert "float16" in err
