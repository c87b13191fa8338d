"""What the log says of a dataset."""

from pathlib import Path

import pytest

from autoseg.core.records import Case, ChannelFile, Dataset
from autoseg.datasets import log_assumed, log_left_out


@pytest.fixture
def dataset():
    case = Case(id="a", channels=(ChannelFile(path=Path("a.nii")),))
    return Dataset(name="Brain", kind="x", channels=("T1",), labels={"background": 0, "lesion": 1}, cases=(case,))


def test_many_cases_left_out_for_one_reason_are_one_line(dataset, caplog):
    left_out = {f"c{n:02d}": "has no label" for n in range(12)} | {"z": "has no T1"}
    log_left_out(dataset.model_copy(update={"left_out": left_out}))
    assert [record.message for record in caplog.records] == [
        "left out 12 cases, each has no label: " + ", ".join(f"c{n:02d}" for n in range(10)) + " and 2 more",
        "left out z: has no T1",
    ]


def test_an_assumed_spacing_is_told(dataset, caplog):
    log_assumed(dataset)
    assert not caplog.records
    cases = tuple(case.model_copy(update={"spacing": (5.0, 1.0, 1.0)}) for case in dataset.cases)
    log_assumed(dataset.model_copy(update={"cases": cases}))
    assert "Brain do not state their spacing; assuming 5 x 1 x 1 mm (z,y,x)" in caplog.text
