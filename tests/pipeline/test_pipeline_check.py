"""autoseg_check: page, JSON and console of a raw dataset; --fix makes another one."""

import json

import numpy as np
import pytest

import autoseg
from autoseg.core.images import read_voxels, write_voxels
from autoseg.core.records import Check


@pytest.fixture
def raw(root):
    """The raw dataset, with a mask of 0 and 255, one of another label, and a scan that is there twice."""
    folder = root / "autoseg_raw" / "Tiny"
    for case, factor in (("case0", 255), ("case2", 7)):
        path = folder / "labelsTr" / f"{case}.nii.gz"
        voxels, grid = read_voxels(path)
        write_voxels(path, (voxels * factor).astype(np.uint8), grid)
    for name in ("imagesTr/{}_0000", "imagesTr/{}_0001", "labelsTr/{}"):
        (folder / f"{name.format('case4')}.nii.gz").write_bytes(
            (folder / f"{name.format('case3')}.nii.gz").read_bytes()
        )
    return folder


def content_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_page_the_json_and_the_console_name_what_is_wrong(run, root, raw):
    before = content_of(raw)
    code, out, _ = run("check", "-d", "Tiny", "--root", root, "--workers", "1")
    folder = root / "autoseg_preprocessed" / "Tiny"
    result = Check.model_validate_json((folder / "check.json").read_text())
    page = (folder / "check.html").read_text()

    assert code == 0
    lines = out.splitlines()
    assert lines[1].split() == ["1", "certain", "case0", "mask", "holds", "255"]
    assert lines[2].split() == ["2", "certain", "case2", "mask", "holds", "7"]
    assert lines[3].split() == ["3", "certain", "case3", "identical", "to", "case4"]
    assert max(map(len, lines[:-1])) <= 80
    assert lines[-1] == f"page: {folder / 'check.html'}"
    assert [(s.case, s.kind) for s in result.suspicions[:3]] == [
        ("case0", "mask-values"), ("case2", "mask-values"), ("case3", "same-scan"),
    ]  # fmt: skip
    assert [case.case for case in result.cases] == [f"case{n}" for n in range(6)]
    assert result.cases[2].problem.startswith("case case2: label autoseg_raw/Tiny/labelsTr/case2.nii.gz holds")
    assert page.count("<article") == 6
    assert page.count("data:image/jpeg") >= 6 * 3
    assert str(root) not in page + (folder / "check.json").read_text()
    assert content_of(raw) == before


def test_fix_writes_what_is_safe_into_another_dataset_and_lists_it(run, root, raw):
    before = content_of(raw)
    code, out, _ = run("check", "-d", "Tiny", "--root", root, "--fix", "Whole", "--no-pictures", "--workers", "1")
    whole = root / "autoseg_raw" / "Whole"
    facts = json.loads((whole / "dataset.json").read_text())

    assert code == 0
    assert "Whole: 3 changes\n" in out
    assert "  case0: the mask holds 1 instead of 255\n" in out
    assert "  case3, case4 are one patient in groups, because their scans are identical\n" in out
    assert np.unique(read_voxels(whole / "labelsTr" / "case0.nii.gz")[0]).tolist() == [0, 1]
    assert facts["groups"] == {"case3": "case3", "case4": "case3"}
    assert facts["left_out"]["case2"].startswith("label labelsTr/case2.nii.gz holds the unexpected values 7")
    assert facts["numTraining"] == 5
    assert (whole / "labelsTr" / "case1.nii.gz").is_symlink()
    assert content_of(raw) == before

    again, out, _ = run("check", "-d", "Whole", "--root", root, "--no-pictures", "--workers", "1")
    assert again == 0
    assert "certain" not in out
    code, _, err = run("check", "-d", "Tiny", "--root", root, "--fix", "Whole")
    assert code == 2
    assert "already exists; remove it, or choose another name with --fix" in err


def test_a_file_that_is_not_ours_stays(run, root):
    (root / "mine.json").write_text("{}")
    code, _, err = run("check", "-d", "Tiny", "--root", root, "-o", root / "mine.html")
    assert code == 2
    assert "mine.json was not written by autoseg" in err
    assert (root / "mine.json").read_text() == "{}"


def test_the_function_returns_what_the_page_shows(root):
    result = autoseg.check("Tiny", pictures=False, workers=1, root=root)
    assert result.compared
    assert (root / "autoseg_preprocessed" / "Tiny" / "check.html").exists()
    assert not [suspicion for suspicion in result.suspicions if suspicion.certainty == "certain"]
