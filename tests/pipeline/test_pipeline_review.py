"""autoseg_predict --doubt: each network's own mask, and the cases worth a look."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from autoseg.core.images import read_voxels


@pytest.fixture
def root(trained):
    """The trained root with a second fold, whose weights are other ones."""
    folder = trained / "autoseg_results" / "Tiny" / "3d"
    shutil.copytree(folder / "fold_0", folder / "fold_1")
    weights = load_file(folder / "fold_1" / "model.safetensors")
    generator = torch.Generator().manual_seed(3)
    noisy = {
        name: tensor + 0.05 * torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
    }
    save_file(noisy, folder / "fold_1" / "model.safetensors")
    return trained


def dice_distance(one, other):
    total = np.count_nonzero(one) + np.count_nonzero(other)
    return 1 - (2 * np.count_nonzero(one & other) / total if total else 1.0)


def test_the_masks_of_single_folds_are_compared(run, root, tmp_path):
    scans = root / "autoseg_raw" / "Tiny" / "imagesTr"
    common = ("-i", scans, "--root", root, "--device", "cpu")
    for fold in "01":
        assert run("predict", *common, "-o", tmp_path / fold, "-f", fold)[0] == 0
    assert run("predict", *common, "-o", tmp_path / "plain")[0] == 0
    code, _, err = run("predict", *common, "-o", tmp_path / "masks", "--doubt")
    assert code == 0
    assert "of 6 cases for review" in err
    distances = {}
    for number in range(6):
        name = f"case{number}.nii.gz"
        masks = [read_voxels(tmp_path / fold / name)[0] > 0 for fold in ("0", "1", "plain", "masks")]
        assert np.array_equal(masks[2], masks[3])  # doubting changes no mask
        distances[f"case{number}"] = dice_distance(masks[0], masks[1])
        found = json.loads((tmp_path / "masks" / "predictions" / f"{name}.doubt.json").read_text())
        assert found["networks"] == 2
        assert found["doubt"]["disagreement"] == pytest.approx(distances[f"case{number}"])
    assert any(distances.values())
    listed = json.loads((tmp_path / "masks" / "doubts.json").read_text())
    assert listed["cases"] == 6
    assert 3 <= len(listed["doubts"]) <= 6
    assert all(doubt["reason"].endswith(".") for doubt in listed["doubts"])


def test_what_was_doubted_before_is_not_predicted_again(run, root, tmp_path):
    scans = root / "autoseg_raw" / "Tiny" / "imagesTr"
    common = ("-i", scans, "-o", tmp_path / "masks", "--root", root, "--device", "cpu", "-f", "0")
    assert run("predict", *common)[0] == 0
    code, _, err = run("predict", *common, "--doubt")  # masks alone are not enough
    assert code == 0
    assert "masks exist already" not in err
    (tmp_path / "masks" / "doubts.json").unlink()
    code, _, err = run("predict", *common, "--doubt")
    assert code == 0
    assert "6 of the masks exist already" in err
    assert (tmp_path / "masks" / "doubts.json").exists()
    one = json.loads((tmp_path / "masks" / "predictions" / "case0.nii.gz.doubt.json").read_text())
    assert one["doubt"]["disagreement"] is None  # a single network agrees with itself
