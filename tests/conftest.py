"""A tiny dataset in autoseg's own layout: six scans of 12 x 20 x 16 voxels with one bright lesion each."""

import json
import shutil

import numpy as np
import pytest

from autoseg.cli import check, evaluate, import_, plan, predict, pretrain, report, subset, train
from autoseg.core.images import write_voxels
from autoseg.core.records import Grid
from autoseg.core.store import Store

COMMANDS = {"import": import_, "plan": plan, "train": train, "predict": predict, "evaluate": evaluate}
COMMANDS |= {"check": check, "report": report, "subset": subset, "pretrain": pretrain}
GRID = Grid(shape=(12, 20, 16), spacing=(2.0, 1.0, 1.0), origin=(-7.5, 3.25, 11.0))
CHANNELS = ("FLAIR", "T1")


def make_case(rng, lesion=True):
    """(2,Z,Y,X) float32 and (Z,Y,X) uint8."""
    image = rng.normal(100, 5, (2, *GRID.shape)).astype(np.float32)
    image[:, :1] = image[:, :, :2] = 0
    label = np.zeros(GRID.shape, np.uint8)
    if lesion:
        z, y, x = rng.integers(3, 7), rng.integers(5, 12), rng.integers(3, 9)
        label[z : z + 3, y : y + 5, x : x + 4] = 1
        image[0][label == 1] += 80
    return image, label


def write_dataset(folder, cases=6, seed=0):
    rng = np.random.default_rng(seed)
    for number in range(cases):
        image, label = make_case(rng, lesion=number != 1)
        for channel, voxels in enumerate(image):
            write_voxels(folder / "imagesTr" / f"case{number}_{channel:04d}.nii.gz", voxels, GRID)
        write_voxels(folder / "labelsTr" / f"case{number}.nii.gz", label, GRID)
    facts = {
        "channel_names": {str(number): name for number, name in enumerate(CHANNELS)},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(facts))


@pytest.fixture
def run(capsys):
    """Run a command as a person would; gives its exit code and what it printed on both streams."""

    def call(name, *argv):
        with pytest.raises(SystemExit) as stop:
            COMMANDS[name]([str(argument) for argument in argv])
        printed = capsys.readouterr()
        return stop.value.code, printed.out, printed.err

    return call


@pytest.fixture
def root(tmp_path):
    """A root with the raw dataset ``Tiny``."""
    write_dataset(tmp_path / "autoseg_raw" / "Tiny")
    return tmp_path


@pytest.fixture(scope="session")
def planned_template(tmp_path_factory):
    """``Tiny`` planned once; tests copy it."""
    folder = tmp_path_factory.mktemp("planned")
    write_dataset(folder / "autoseg_raw" / "Tiny")
    with pytest.raises(SystemExit) as stop:
        plan(["-d", "Tiny", "--root", str(folder), "--preset", "pocket", "--workers", "1", "-q"])
    assert stop.value.code == 0
    return folder


@pytest.fixture(scope="session")
def trained_template(planned_template, tmp_path_factory):
    """``Tiny`` with fold 0 of ``3d`` trained for a moment."""
    folder = tmp_path_factory.mktemp("trained") / "root"
    shutil.copytree(planned_template, folder)
    with pytest.raises(SystemExit) as stop:
        train(
            [
                "-d",
                "Tiny",
                "-c",
                "3d",
                "-f",
                "0",
                "--root",
                str(folder),
                "--epochs",
                "2",
                "--steps-per-epoch",
                "2",
                "-q",
            ]
        )
    assert stop.value.code == 0
    return folder


@pytest.fixture
def planned(planned_template, tmp_path):
    """A copy of the planned root."""
    shutil.copytree(planned_template, tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def trained(trained_template, tmp_path):
    """A copy of the trained root."""
    shutil.copytree(trained_template, tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def store(planned):
    """The store of the planned root."""
    return Store(planned)
