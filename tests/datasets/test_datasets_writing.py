"""Any layout -> autoseg's raw layout: whole or not at all, and the source is never touched."""

import gzip
import hashlib
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from layouts import import_folder

from autoseg.core.errors import CasesError, UsageError
from autoseg.core.images import read_voxels, write_voxels
from autoseg.core.store import hidden_beside
from autoseg.datasets import open_dataset, read_case, writing


def _state(folder):
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _everything(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def target(tmp_path):
    return tmp_path / "autoseg_raw" / "brain"


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("kind", ["nnunet", "msd", "isles15", "isles22"])
def test_round_trip_keeps_every_case_and_the_source(kind, copy, target, make_nnunet, make_msd, make_siss, make_isles22):
    source = {"nnunet": make_nnunet, "msd": make_msd, "isles15": make_siss, "isles22": make_isles22}[kind]()
    before = _state(source)
    found = open_dataset(source, "brain").model_copy(update={"resample_channels": True})
    imported = import_folder(source, target, copy=copy, resample_channels=True)
    assert imported == open_dataset(target, "brain")
    assert imported.kind == "nnunet"
    for field in ("channels", "labels", "regions", "ignore_label", "licence", "left_out"):
        assert getattr(imported, field) == getattr(found, field)
    for old, new in zip(found.cases, imported.cases, strict=True):
        assert (old.id, old.group, old.site) == (new.id, new.group, new.site)
        (old_image, old_label), (image, label) = read_case(found, old), read_case(imported, new)
        np.testing.assert_array_equal(old_image.voxels, image.voxels)
        np.testing.assert_array_equal(old_label.voxels, label.voxels)
        assert image.grid.matches(old_image.grid, tolerance_mm=1e-4)
    assert _state(source) == before
    assert _everything(target.parent) == ["brain"]


def test_usable_files_become_links_and_others_are_converted(target, make_isles22):
    import_folder(make_isles22(), target, resample_channels=True)
    stem = target / "imagesTr" / "sub-strokecase0001_ses-0001"
    links = [stem.with_name(f"{stem.name}_{i:04d}.nii.gz").is_symlink() for i in range(3)]
    assert links == [True, True, False]
    assert (target / "labelsTr" / "sub-strokecase0001_ses-0001.nii.gz").is_symlink()


def test_copies_are_no_links(target, make_nnunet):
    import_folder(make_nnunet(), target, copy=True)
    assert not any(path.is_symlink() for path in target.rglob("*"))


def test_links_reach_the_source_from_a_relative_path(target, make_nnunet, monkeypatch):
    source = make_nnunet()
    monkeypatch.chdir(source.parent)
    dataset = import_folder(source.relative_to(source.parent), target)
    assert dataset.cases[0].channels[0].path.resolve() == source / "imagesTr" / "a_0000.nii.gz"


def test_dataset_json_is_nnunets_and_says_where_it_came_from_without_a_path(target, make_isles22, tmp_path):
    import_folder(make_isles22(), target, resample_channels=True)
    text = (target / "dataset.json").read_text()
    content = json.loads(text)
    assert content["channel_names"] == {"0": "DWI", "1": "ADC", "2": "FLAIR"}
    assert content["labels"] == {"background": 0, "lesion": 1}
    assert (content["numTraining"], content["file_ending"]) == (2, ".nii.gz")
    assert content["imported_from"] == "isles22"
    assert content["groups"]["sub-strokecase0001_ses-0001"] == "sub-strokecase0001"
    assert str(tmp_path) not in text


def test_regions_ignore_groups_and_sites_survive(target, make_nnunet):
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    keys = {"groups": {"a": "p1", "b": "p1"}, "sites": {"a": "Bern"}, "licence": "CC0"}
    source = make_nnunet(labels=labels, regions_class_order=[1, 2], **keys)
    imported = import_folder(source, target)
    assert json.loads((target / "dataset.json").read_text())["labels"] == labels
    assert json.loads((target / "dataset.json").read_text())["regions_class_order"] == [1, 2]
    assert imported.regions == {"whole": (1, 2), "core": (2,)}
    assert [(case.group, case.site) for case in imported.cases] == [("p1", "Bern"), ("p1", None), (None, None)]
    assert imported.licence == "CC0"


def test_mixed_endings_become_one(target, tmp_path, make_siss):
    source = make_siss()
    path = next(source.rglob("*MR_T2.70010.nii"))
    (path.parent / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    dataset = import_folder(source, target)
    files = [file.path for file in dataset.cases[0].channels]
    assert all(file.name.endswith(".nii.gz") for file in files)
    assert [file.is_symlink() for file in files] == [False, False, False, True]


def test_all_bad_cases_are_reported_together_and_nothing_is_written(target, make_nnunet, write_nifti, blob):
    source = make_nnunet()
    (source / "imagesTr" / "a_0000.nii.gz").write_bytes(b"")
    write_nifti(source / "labelsTr" / "c.nii.gz", blob(9))
    with pytest.raises(CasesError, match="2 of 3 cases failed while importing; nothing was written") as caught:
        import_folder(source, target)
    assert list(caught.value.failures) == ["a", "c"]
    assert "unexpected values 9" in caught.value.failures["c"]
    assert _everything(target.parent) == []


def test_bad_cases_are_left_out_when_asked(target, make_nnunet, tmp_path):
    source = make_nnunet()
    (source / "imagesTr" / "b_0000.nii.gz").write_bytes(b"")
    imported = import_folder(source, target, skip_bad=True)
    assert [case.id for case in imported.cases] == ["a", "c"]
    assert imported.left_out == {"b": "imagesTr/b_0000.nii.gz is empty (0 bytes); copy it again"}


def test_a_dataset_of_bad_cases_alone_is_refused_even_then(target, make_nnunet):
    source = make_nnunet(cases=("a",))
    (source / "imagesTr" / "a_0000.nii.gz").write_bytes(b"")
    with pytest.raises(CasesError):
        import_folder(source, target, skip_bad=True)
    assert not target.exists()


def test_a_disk_without_links_is_no_bad_case_and_says_copy(target, make_nnunet, monkeypatch):
    def refuse(self, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    with pytest.raises(CasesError, match=r"could not be written: Operation not permitted; .* import with --copy"):
        import_folder(make_nnunet(), target, skip_bad=True)
    assert _everything(target.parent) == []


def test_an_existing_target_is_refused(target, make_nnunet):
    source = make_nnunet()
    target.mkdir(parents=True)
    with pytest.raises(UsageError, match="already exists and is not a dataset; remove it, or import under an"):
        import_folder(source, target)


def test_an_import_that_was_killed_when_it_was_complete_is_known_as_complete(target, make_nnunet, monkeypatch):
    source = make_nnunet()

    def kill(folder, name):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(writing, "open_dataset", kill)  # after the rename
        import_folder(source, target)
    with pytest.raises(UsageError, match=r"a complete dataset of 3 cases; use it: autoseg_plan -d brain; or"):
        import_folder(source, target)


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_bug_costs_its_case(target, make_nnunet, monkeypatch, skip_bad):
    read = writing.read_case

    def fail(dataset, case):
        if case.id == "b":
            raise ZeroDivisionError("division by zero")
        return read(dataset, case)

    monkeypatch.setattr(writing, "read_case", fail)
    if skip_bad:
        imported = import_folder(make_nnunet(), target, skip_bad=True)
        assert [case.id for case in imported.cases] == ["a", "c"]
        assert imported.left_out == {"b": "ZeroDivisionError: division by zero"}
        return
    with pytest.raises(CasesError, match=r"1 of 3 cases failed while importing; nothing was written \(repair these"):
        import_folder(make_nnunet(), target)
    assert _everything(target.parent) == []


def test_what_an_interrupted_import_left_is_cleared(target, make_nnunet):
    gone = subprocess.Popen(["true"])
    gone.wait()
    of_another = hidden_beside(target)
    mine, theirs = f"-{os.getpid():x}-", f"-{gone.pid:x}-"
    old = target.with_name(".brain.importing")  # of version 0.1, which does not tell whose it is
    for rest in (of_another.with_name(of_another.name.replace(mine, theirs)), old):
        rest.mkdir(parents=True)
        (rest / "half.nii.gz").write_bytes(b"x")
    os.utime(old, (0, 0))
    import_folder(make_nnunet(), target)
    assert _everything(target.parent) == ["brain"]
    assert not (target / "half.nii.gz").exists()


def test_an_interrupt_leaves_nothing(target, make_nnunet):
    def interrupt(done, total, what):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_folder(make_nnunet(), target, progress=interrupt)
    assert _everything(target.parent) == []


def test_progress_counts_cases_and_workers_agree(target, make_nnunet):
    seen = []
    import_folder(make_nnunet(), target, workers=2, progress=lambda *step: seen.append(step))
    assert [step[:2] for step in seen] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert sorted(what for _, _, what in seen[1:]) == [f"importing, {case} done" for case in "abc"]
    assert len({what.partition(",")[0] for _, _, what in seen}) == 1  # one task, so that a terminal shows it


def test_a_name_that_is_no_folder_is_refused(tmp_path, make_nnunet):
    with pytest.raises(UsageError, match=r"'\.\./brain' is not a valid dataset name"):
        import_folder(make_nnunet(), tmp_path / "brain", dataset="../brain")


def test_a_label_that_is_read_as_other_numbers_is_converted(target, make_nnunet, write_nifti, blob):
    source = make_nnunet()
    write_nifti(source / "labelsTr" / "a.nii.gz", blob(255))
    import_folder(source, target)
    labels = target / "labelsTr"
    assert [(labels / f"{case}.nii.gz").is_symlink() for case in "abc"] == [False, True, True]
    assert read_voxels(labels / "a.nii.gz")[0].max() == 1


def test_channels_with_the_same_voxels_are_told(target, make_nnunet, caplog):
    source = make_nnunet()
    for case in "ab":
        (source / "imagesTr" / f"{case}_0001.nii.gz").write_bytes(
            (source / "imagesTr" / f"{case}_0000.nii.gz").read_bytes()
        )
    import_folder(source, target)
    assert "FLAIR and T1 hold the same voxels in 2 cases: a, b" in caplog.text


def test_of_two_imports_into_one_name_one_wins_whole(target, make_nnunet, tmp_path):
    first, second = make_nnunet(tmp_path / "one"), make_nnunet(tmp_path / "two", cases=("x", "y"))

    def import_the_other(done, total, what):
        if done == 1:
            import_folder(second, target)

    with pytest.raises(UsageError, match=r"already exists; .*another command made it meanwhile"):
        import_folder(first, target, progress=import_the_other)
    assert [case.id for case in open_dataset(target, "brain").cases] == ["x", "y"]
    assert _everything(target.parent) == ["brain"]


def test_a_scan_no_head_has_is_refused_unless_accepted(target, make_nnunet):
    source = make_nnunet(cases=("a",))
    for path in source.rglob("a*.nii.gz"):
        voxels, grid = read_voxels(path)
        write_voxels(path, voxels, grid.model_copy(update={"spacing": (0.01, 0.01, 0.01)}))
    message = (
        r"size of 0\.1 x 0\.2 x 0\.3 mm .*, which no head has: its header states a spacing of 0\.01 x 0\.01 x 0\.01 mm"
    )
    with pytest.raises(CasesError, match=message):
        import_folder(source, target)
    assert import_folder(source, target, accept_spacing=True).cases
