"""A model that nnU-Net itself trained, exported and predicted with gives the same numbers here.

The files under ``golden`` are made by ``benchmarks/nnunet_models/compare_masks.py``: oblique sagittal slices, two
channels, z-score inside the non-zero mask, a coarse axis, a transposition, mirroring on all axes.
"""

from pathlib import Path

import numpy as np
import torch

from autoseg.core.images import read_voxels
from autoseg.datasets import find_scans, read_image
from autoseg.model import load_model
from autoseg.prediction import predict_logits
from autoseg.preprocessing import prepare_case

GOLDEN = Path(__file__).parent / "golden"


def test_logits_are_nnunets(tmp_path, bring):
    assert bring(GOLDEN / "model.zip")[0] == 0
    cpu = torch.device("cpu")
    model = load_model(tmp_path / "root" / "autoseg_results" / "Lesions" / "3d", None, cpu)
    (case,), _ = find_scans(GOLDEN / "scans", model.plan.channels)
    image = read_image(case.id, case.channels, model.plan.channels)
    prepared = prepare_case(case.id, image, None, model.configuration.preprocessing)
    logits = predict_logits(model.networks, prepared.image, model.configuration.tiling, outputs=3, device=cpu)
    theirs = np.load(GOLDEN / "logits_middle_slice.npy")
    assert np.abs(logits[:, logits.shape[1] // 2] - theirs).max() < 1e-4
    assert theirs.std() > 0.1


def test_masks_are_nnunets_to_the_voxel(tmp_path, bring, run):
    assert bring(GOLDEN / "model.zip")[0] == 0
    options = ("--root", tmp_path / "root", "--device", "cpu", "--mirror")
    assert run("predict", "-i", GOLDEN / "scans", "-o", tmp_path / "masks", *options)[0] == 0
    (path,) = (tmp_path / "masks").glob("*.nii.gz")
    ours, own_grid = read_voxels(path)
    theirs, grid = read_voxels(GOLDEN / "mask.nii.gz")
    assert own_grid.matches(grid)
    assert (ours != theirs).sum() <= 2  # another processor may round a tie otherwise
    assert set(np.unique(theirs)) == {0, 1, 2}
