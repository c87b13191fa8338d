"""Each layout, exactly as distributed, is recognised and listed."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from autoseg.core.errors import DataError, UsageError
from autoseg.datasets import IMPORTERS, find_dataset, open_dataset, read_case

DATA = Path(os.environ.get("AUTOSEG_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.mark.parametrize("kind", list(IMPORTERS))
def test_every_importer_keeps_the_contract(kind, tmp_path):
    importer = IMPORTERS[kind]
    assert importer.looks_for and "\n" not in importer.looks_for
    assert importer.recognises(tmp_path) is False
    with pytest.raises(DataError, match=re.escape(str(tmp_path))):
        importer.find(tmp_path, "x")


@pytest.mark.parametrize("kind", ["nnunet", "msd", "isles15", "isles22"])
def test_each_layout_is_recognised_by_its_own_importer_alone(kind, make_nnunet, make_msd, make_siss, make_isles22):
    folder = {"nnunet": make_nnunet, "msd": make_msd, "isles15": make_siss, "isles22": make_isles22}[kind]()
    assert [name for name in IMPORTERS if IMPORTERS[name].recognises(folder)] == [kind]
    assert open_dataset(folder, "x").kind == kind


def test_a_missing_dataset_is_an_error_that_lists_the_others(make_nnunet):
    beside = make_nnunet().parent
    with pytest.raises(UsageError, match=r"unknown dataset 'Brain'.*choose from: Dataset001_Brain"):
        open_dataset(beside / "Brain", "Brain")


def test_an_unknown_layout_is_an_error_that_says_what_each_importer_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"(?s)nnunet: dataset\.json.*msd:.*isles15: SISS2015.*isles22:"):
        open_dataset(tmp_path, "x")


def test_an_unknown_kind_is_an_error_that_lists_the_known_ones(tmp_path):
    with pytest.raises(
        UsageError,
        match=r"unknown importer 'brats99' \(did you mean 'brats' .*; choose from: nnunet, msd, isles15, isles22, ",
    ):
        find_dataset(tmp_path, "x", kind="brats99")


# nnU-Net v2


def test_nnunet_names_channels_labels_and_cases(make_nnunet):
    dataset = open_dataset(make_nnunet(), "x")
    assert dataset.channels == ("FLAIR", "T1")
    assert dataset.labels == {"background": 0, "lesion": 1}
    assert [case.id for case in dataset.cases] == ["a", "b", "c"]
    assert [file.path.name for file in dataset.cases[0].channels] == ["a_0000.nii.gz", "a_0001.nii.gz"]


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nnunet_takes_any_ending_in_any_case(ending, make_nnunet):
    folder = make_nnunet(ending=ending)
    upper = folder / "imagesTr" / f"a_0000{ending}"
    upper.rename(upper.with_name(f"a_0000{ending.upper()}"))
    assert len(open_dataset(folder, "x").cases) == 3


def test_nnunet_lists_as_regions_paint_in_the_stated_order(make_nnunet):
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    dataset = open_dataset(make_nnunet(labels=labels, regions_class_order=[1, 2, 3]), "x")
    assert dataset.regions == {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
    assert dataset.labels == {"background": 0, "label_1": 1, "label_2": 2, "enhancing": 3}
    assert dataset.ignore_label == 4


def test_nnunet_region_painted_with_another_value_of_its_own_puts_it_first(make_nnunet):
    labels = {"background": 0, "whole": [1, 2, 3], "core": [3]}
    dataset = open_dataset(make_nnunet(labels=labels, regions_class_order=[2, 3]), "x")
    assert dataset.regions["whole"] == (2, 1, 3)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"file_ending": None}, "lacks file_ending"),
        ({"file_ending": ".png"}, r"'\.png' is not supported; use \.nii\.gz"),
        ({"channel_names": {"1": "T1", "2": "T2"}}, '"channel_names" must name the channels as'),
        ({"channel_names": {"0": "T1", "1": "T1"}}, "several channels called T1"),
        ({"labels": {"lesion": 1}}, '"labels" must hold "background": 0'),
        ({"labels": {"background": 0, "lesion": "1"}}, 'label "lesion" must be an integer or a list'),
        ({"labels": {"background": 0, "lesion": 2}}, "must be background 0, then 1, 2, .* without a gap"),
        ({"labels": {"background": 0, "lesion": 2, "ignore": 1}}, '"ignore" must be one value above all others'),
        ({"labels": {"background": 0, "all": [1, 2], "one": 1}, "regions_class_order": [3, 1]}, "one value of each"),
        ({"labels": {"background": 0, "one": [1], "all": [1, 2]}}, "list a region before those that lie inside it"),
        ({"groups": ["a"]}, '"groups" must be an object'),
        (
            {"labels": {"background": 0, **{f"l{n}": n for n in range(1, 261)}}},
            "up to 260; masks hold values up to 255",
        ),
        ({"groups": {"a.nii.gz": "p"}}, r'"groups" names 1 cases .*: \'a\.nii\.gz\' \(did you mean \'a\'\?\)'),
        ({"sites": {"a_0000": "Bern", "b": "Bern"}}, '"sites" names 1 cases'),
        ({"licence": float("nan")}, "NaN is not a number of JSON"),
    ],
)
def test_nnunet_wrong_dataset_json_is_named(keys, message, make_nnunet):
    with pytest.raises(DataError, match=message):
        open_dataset(make_nnunet(**keys), "x")


def test_nnunet_broken_json_is_reported_and_not_taken_for_another_layout(make_nnunet):
    folder = make_nnunet()
    (folder / "dataset.json").write_text('{"labels": ')
    with pytest.raises(DataError, match=r"dataset\.json cannot be read as JSON"):
        open_dataset(folder, "x")


def test_nnunet_reports_everything_that_has_no_partner_at_once(make_nnunet, write_nifti, scan, blob):
    folder = make_nnunet()
    (folder / "labelsTr" / "a.nii.gz").unlink()
    (folder / "imagesTr" / "b_0001.nii.gz").unlink()
    write_nifti(folder / "labelsTr" / "z.nii.gz", blob())
    write_nifti(folder / "imagesTr" / "c_0002.nii.gz", scan())
    write_nifti(folder / "imagesTr" / "d.nii.gz", scan())
    write_nifti(folder / "imagesTr" / "e_0000.nii", scan())
    with pytest.raises(DataError) as caught:
        open_dataset(folder, "x")
    for sentence in (
        "imagesTr/a_0000.nii.gz has no label labelsTr/a.nii.gz",
        "imagesTr/b_0001.nii.gz (T1) is missing",
        "labelsTr/z.nii.gz has no image",
        "imagesTr/c_0002.nii.gz has a channel number that channel_names lacks",
        "imagesTr/d.nii.gz has no channel number",
        "imagesTr/e_0000.nii does not end in .nii.gz",
    ):
        assert sentence in str(caught.value)


def test_nnunet_names_ten_problems_and_counts_the_rest(make_nnunet):
    folder = make_nnunet(cases=[f"c{i:02d}" for i in range(13)])
    for path in (folder / "labelsTr").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"c09_0000.nii.gz has no label labelsTr/c09.nii.gz and 3 more"):
        open_dataset(folder, "x")


def test_nnunet_skips_hidden_files(make_nnunet):
    folder = make_nnunet()
    (folder / "imagesTr" / "._a_0000.nii.gz").write_bytes(b"x")
    (folder / "imagesTr" / "a_0000.json").write_text("{}")
    assert len(open_dataset(folder, "x").cases) == 3


def test_nnunet_explicit_file_lists(make_nnunet):
    folder = make_nnunet()
    elsewhere = folder.parent / "elsewhere"
    (folder / "imagesTr").rename(elsewhere)
    listed = {
        "one": {"images": ["../elsewhere/a_0000.nii.gz", "../elsewhere/b_0001.nii.gz"], "label": "labelsTr/a.nii.gz"}
    }
    content = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**content, "dataset": listed}))
    dataset = open_dataset(folder, "x")
    assert [case.id for case in dataset.cases] == ["one"]
    assert read_case(dataset, dataset.cases[0])[0].voxels.shape == (2, 10, 20, 30)
    listed["one"]["images"][0] = "gone.nii.gz"
    (folder / "dataset.json").write_text(json.dumps({**content, "dataset": listed}))
    with pytest.raises(DataError, match=r"do not exist: .*gone\.nii\.gz"):
        open_dataset(folder, "x")


def test_nnunet_case_id_that_leaves_the_folder_is_refused(make_nnunet):
    listed = {"../a": {"images": ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz"], "label": "labelsTr/a.nii.gz"}}
    with pytest.raises(DataError, match=r"ids cannot name a file: \.\./a"):
        open_dataset(make_nnunet(dataset=listed), "x")


# Medical Segmentation Decathlon


def test_msd_takes_channels_from_the_fourth_axis(make_msd, scan):
    dataset = open_dataset(make_msd(), "x")
    assert dataset.channels == ("FLAIR", "T1w")
    assert dataset.labels == {"background": 0, "edema": 1, "enhancing": 2}
    assert dataset.licence == "CC-BY-SA 4.0"
    assert [case.id for case in dataset.cases] == ["BRATS_001", "BRATS_002"]
    image, label = read_case(dataset, dataset.cases[1])
    np.testing.assert_array_equal(image.voxels, np.stack([scan(10), scan(11)]).astype(np.float32))
    assert label is not None and np.unique(label.voxels).tolist() == [0, 2]


def test_msd_file_with_another_number_of_volumes_is_an_error(make_msd, write_nifti, scan):
    folder = make_msd()
    write_nifti(folder / "imagesTr" / "BRATS_001.nii.gz", np.stack([scan(i) for i in range(3)]))
    dataset = open_dataset(folder, "x")
    with pytest.raises(DataError, match=r"case BRATS_001: .* has 3 volumes along its fourth axis; expected 2 channels"):
        read_case(dataset, dataset.cases[0])


def test_msd_pairs_must_be_complete(make_msd):
    folder = make_msd()
    (folder / "labelsTr" / "BRATS_001.nii.gz").unlink()
    (folder / "imagesTr" / "BRATS_002.nii.gz").unlink()
    with pytest.raises(DataError, match=r"imagesTr/BRATS_001.nii.gz has no label, labelsTr/BRATS_002.nii.gz has no im"):
        open_dataset(folder, "x")


def test_msd_listed_file_that_is_gone_is_an_error(make_msd):
    folder = make_msd()
    for part in ("imagesTr", "labelsTr"):
        (folder / part / "BRATS_002.nii.gz").unlink()
    with pytest.raises(DataError, match=r"\./imagesTr/BRATS_002\.nii\.gz is listed under training but does not exist"):
        open_dataset(folder, "x")


def test_msd_pair_that_is_not_listed_is_left_out_with_a_reason(make_msd, write_nifti, scan, blob):
    folder = make_msd()
    write_nifti(folder / "imagesTr" / "extra.nii.gz", scan())
    write_nifti(folder / "labelsTr" / "extra.nii.gz", blob())
    dataset = open_dataset(folder, "x")
    assert len(dataset.cases) == 2
    assert dataset.left_out == {"extra": "not listed under training in dataset.json"}


def test_every_real_hippocampus_case_reads():
    folder = DATA / "Task04_Hippocampus"
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; set AUTOSEG_TEST_DATA")
    dataset = open_dataset(folder, "x")
    assert (len(dataset.cases), dataset.labels) == (120, {"background": 0, "Anterior": 1, "Posterior": 2})
    for case in dataset.cases[::12]:
        image, label = read_case(dataset, case)
        assert label is not None and np.unique(label.voxels).tolist() == [0, 1, 2]
        assert image.voxels.shape == (1, *label.voxels.shape)


# ISLES 2015 SISS


@pytest.mark.parametrize("given", [".", "SISS2015_Training"])
def test_isles15_finds_channels_whatever_the_ids(given, make_siss, scan):
    dataset = open_dataset(make_siss() / given, "x")
    assert dataset.channels == ("DWI", "FLAIR", "T1", "T2")
    assert [case.id for case in dataset.cases] == ["siss_01", "siss_02"]
    assert dataset.left_out == {"siss_03": "has no label"}
    image, label = read_case(dataset, dataset.cases[0])  # its T1 has a trailing axis of length 1
    np.testing.assert_array_equal(image.voxels, np.stack([scan(10 + i) for i in range(4)]).astype(np.float32))
    assert label is not None and label.voxels.sum() == 24


def test_isles15_leaves_out_a_case_without_a_channel(make_siss):
    folder = make_siss()
    next((folder / "SISS2015_Training" / "1").glob("*T2*/*.nii")).unlink()
    assert open_dataset(folder, "x").left_out["siss_01"] == "has no T2"


# ISLES 2022


@pytest.mark.parametrize("bids", [True, False])
def test_isles22_finds_both_copies(bids, make_isles22):
    dataset = open_dataset(make_isles22(bids=bids, same_grid=True), "x")
    assert dataset.channels == ("DWI", "ADC", "FLAIR")
    assert [case.id for case in dataset.cases] == ["sub-strokecase0001_ses-0001", "sub-strokecase0002_ses-0001"]
    assert dataset.cases[0].group == "sub-strokecase0001"
    image, label = read_case(dataset, dataset.cases[0])
    assert image.voxels.shape == (3, 10, 20, 30)
    assert label is not None and label.voxels.sum() == 24


def test_isles22_leaves_out_a_session_without_label(make_isles22):
    folder = make_isles22()
    next((folder / "derivatives").rglob("*0002*_msk.nii.gz")).unlink()
    dataset = open_dataset(folder, "x")
    assert dataset.left_out == {"sub-strokecase0002_ses-0001": "has no label"}


def test_the_real_isles22_case_needs_resampling():
    folder = DATA / "isles22"
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; set AUTOSEG_TEST_DATA")
    dataset = open_dataset(folder, "x")
    with pytest.raises(DataError, match=r"29x512x512 voxels .* at 5x0\.4492x0\.4492 mm.*73x112x112 .* at 2x2x2 mm"):
        read_case(dataset, dataset.cases[0])
    image, label = read_case(dataset.model_copy(update={"resample_channels": True}), dataset.cases[0])
    assert label is not None and label.voxels.sum() == 523
    assert image.voxels.shape == (3, 73, 112, 112)
    assert np.corrcoef(image.voxels[0].ravel(), image.voxels[2].ravel())[0, 1] > 0.8


def test_cases_that_groups_do_not_name_keep_the_subject_of_their_name(make_nnunet):
    folder = make_nnunet(cases=("sub-1_ses-1", "sub-1_ses-2", "x"), groups={"x": "p"}, left_out={"y": "why"})
    dataset = open_dataset(folder, "d")
    assert [case.group for case in dataset.cases] == ["sub-1", "sub-1", "p"]
