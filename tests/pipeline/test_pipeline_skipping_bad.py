"""``autoseg_plan --skip-bad``: bad cases are left out, told, and tried anew when their files change."""

import json

import pytest
import torch

from autoseg.core.store import Store
from autoseg.preparation import open_raw

PLAN = ("plan", "-d", "Tiny", "--preset", "pocket", "--workers", 1)


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def broken(root):
    """The dataset with one file of no bytes, and what it held."""
    path = root / "autoseg_raw" / "Tiny" / "imagesTr" / "case3_0001.nii.gz"
    content = path.read_bytes()
    path.write_bytes(b"")
    return path, content


def ids(root):
    return [case.id for case in open_raw(Store(root), "Tiny").cases]


def test_without_it_the_message_says_what_it_would_do(run, root, broken):
    code, _, err = run(*PLAN, "--dry-run", "--root", root)
    assert code == 2
    assert "1 of 6 cases failed while measuring; the others are done (repair these, or leave them out with" in err
    assert "--skip-bad" in err


def test_a_bad_case_is_in_no_fold_and_no_later_command_sees_it(run, root, broken):
    code, _, err = run(*PLAN, "--skip-bad", "--root", root)
    assert code == 0
    assert "left out case3: " in err and "is empty (0 bytes)" in err
    folder = root / "autoseg_preprocessed" / "Tiny"
    folds = json.loads((folder / "folds.json").read_text())["folds"]
    assert {case for fold in folds for case in fold["train"]} == {f"case{n}" for n in (0, 1, 2, 4, 5)}
    assert len(json.loads((folder / "fingerprint.json").read_text())["cases"]) == 5
    assert list(json.loads((folder / "left_out.json").read_text())["why"]) == ["case3"]
    assert not [*folder.glob("arrays_*/case3*")] and [*folder.glob("arrays_*/case2*")]
    assert ids(root) == [f"case{n}" for n in (0, 1, 2, 4, 5)]

    path, content = broken
    path.write_bytes(content)  # repaired: seen by all, and by the next plan
    assert len(ids(root)) == 6
    assert run(*PLAN, "--root", root)[0] == 0
    assert len(json.loads((folder / "fingerprint.json").read_text())["cases"]) == 6
    assert not (folder / "left_out.json").exists()


def test_a_dry_run_leaves_out_and_writes_nothing(run, root, broken):
    code, _, err = run(*PLAN, "--skip-bad", "--dry-run", "--root", root)
    assert code == 0 and "left out case3" in err
    assert not (root / "autoseg_preprocessed").exists()


def test_bad_cases_alone_are_an_error_even_then(run, root):
    for path in (root / "autoseg_raw" / "Tiny" / "labelsTr").iterdir():
        path.write_bytes(b"")
    code, _, err = run(*PLAN, "--skip-bad", "--root", root)
    assert code == 2 and "6 of 6 cases failed while measuring" in err
