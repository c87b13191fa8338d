"""Synthetic brains: laid out as ISLES 2015, the same from the same seed, and what lesions.csv says is true."""

import csv
import hashlib

import numpy as np
import pytest
from scipy.ndimage import label as find_components

from autoseg.core.errors import UsageError
from autoseg.datasets import make_isles15, open_dataset, read_case

SHAPE = (24, 32, 28)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "brains"
    make_isles15(folder, cases=4, seed=5, shape=SHAPE)
    return folder


@pytest.fixture(scope="module")
def cases(made):
    dataset = open_dataset(made, "x")
    return {case.id: read_case(dataset, case) for case in dataset.cases}


def _rows(folder):
    with (folder / "lesions.csv").open() as file:
        return list(csv.DictReader(file))


def test_it_lies_as_isles_2015_does(made):
    dataset = open_dataset(made, "x")
    assert (dataset.kind, len(dataset.cases), dataset.left_out) == ("isles15", 4, {})
    ids = [path.stem.rpartition(".")[2] for path in made.rglob("*.nii")]
    assert len(set(ids)) == len(ids) == 20
    assert "synthetic" in (made / "README.txt").read_text()


def test_exactly_one_case_has_no_lesion(cases):
    assert [case for case, (_, label) in cases.items() if not label.voxels.any()] == ["siss_03"]


def test_the_table_of_lesions_is_true(made, cases):
    rows = _rows(made)
    for case, (_, label) in cases.items():
        found = [row for row in rows if row["case"] == case]
        components, count = find_components(label.voxels, np.ones((3, 3, 3)))
        assert count == len(found)
        for row in found:
            volume = float(row["volume_ml"]) / label.grid.voxel_volume_ml
            centre = np.array([float(row[f"centre_{axis}"]) for axis in "zyx"])
            middles = [np.argwhere(components == i + 1) for i in range(count)]
            match = [m for m in middles if np.abs(m.mean(0) - centre).max() < 0.06 and len(m) == round(volume)]
            assert len(match) == 1


def test_the_background_is_exactly_zero_in_all_channels_alike(cases):
    for image, label in cases.values():
        brain = image.voxels > 0
        assert (brain == brain[0]).all() and 0.15 < brain[0].mean() < 0.4
        assert brain[0][label.voxels > 0].all()


def test_lesions_are_bright_in_dwi_and_dark_in_t1(cases):
    image, label = cases["siss_01"]  # the one with a large lesion
    inside, around = label.voxels > 0, (label.voxels == 0) & (image.voxels[0] > 0)
    means = [(channel[inside].mean(), channel[around].mean()) for channel in image.voxels]
    assert means[0][0] > 1.2 * means[0][1] and means[1][0] > means[1][1] and means[2][0] < means[2][1]


def _hashes(folder):
    return {path.relative_to(folder): hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*.*")
            if path.is_file()}  # fmt: skip


def test_the_same_seed_draws_the_same_and_another_does_not(tmp_path):
    small = (12, 16, 14)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_isles15(tmp_path / name, cases=1, seed=seed, shape=small)
    assert _hashes(tmp_path / "a") == _hashes(tmp_path / "b")
    assert _hashes(tmp_path / "a") != _hashes(tmp_path / "c")


def test_progress_counts_cases(tmp_path):
    seen = []
    make_isles15(tmp_path / "a", cases=2, seed=1, shape=(12, 16, 14), progress=lambda *step: seen.append(step))
    assert seen == [(1, 2, "siss_01"), (2, 2, "siss_02")]


def test_a_folder_in_use_and_impossible_numbers_are_refused(tmp_path):
    (tmp_path / "x").write_text("x")
    with pytest.raises(UsageError, match="is not empty; name a new folder"):
        make_isles15(tmp_path, cases=1, seed=1)
    with pytest.raises(UsageError, match="0 cases of 72x96x84 voxels are too few for a dataset"):
        make_isles15(tmp_path / "new", cases=0, seed=1)
