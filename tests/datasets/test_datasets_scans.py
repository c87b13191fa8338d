"""Scans to predict are found in every form people keep them, and doubt is an error."""

import numpy as np
import pytest

from autoseg.core.errors import UsageError
from autoseg.datasets import find_scans, read_image


@pytest.fixture
def touch(tmp_path):
    """Make files that only have names."""

    def make(*names):
        for name in names:
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        return tmp_path / "in"

    return make


def _names(case):
    return [file.path.name for file in case.channels]


def test_numbered_files_are_channels(touch):
    folder = touch("a_0000.nii.gz", "a_0001.nii.gz", "b_0000.NII.GZ", "b_0001.nii.gz", "._a_0000.nii.gz", "notes.txt")
    cases, failures = find_scans(folder, ["FLAIR", "T1"])
    assert [case.id for case in cases] == ["a", "b"]
    assert _names(cases[0]) == ["a_0000.nii.gz", "a_0001.nii.gz"]
    assert failures == {}


def test_a_missing_channel_fails_its_case_alone(touch):
    folder = touch("a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz")
    cases, failures = find_scans(folder, ["FLAIR", "T1"])
    assert [case.id for case in cases] == ["a"]
    assert list(failures) == ["b"] and "case b: b_0001 (T1) is missing" in failures["b"]


def test_a_channel_too_many_fails_its_case(touch):
    cases, failures = find_scans(touch("a_0000.nii.gz", "a_0001.nii.gz"), ["FLAIR"])
    assert cases == ()
    assert "a_0001.nii.gz is one channel too many; the model has 1 channel (FLAIR)" in failures["a"]


def test_a_later_channel_is_not_predicted_as_the_first(touch):
    cases, failures = find_scans(touch("a_0000.nii.gz", "b_0001.nii.gz"), ["FLAIR"])
    assert [case.id for case in cases] == ["a"]
    assert "case b: b_0000 (FLAIR) is missing beside" in failures["b"]


def test_images_of_other_formats_are_named(touch):
    cases, failures = find_scans(
        touch("a_0000.nii.gz", "b.hdr", "b.img", "c.MGZ", "notes.txt", "a_0000.nii.bz2"), ["FLAIR"]
    )
    assert [case.id for case in cases] == ["a"]
    assert sorted(failures) == ["b.hdr", "c.MGZ"]
    assert failures["c.MGZ"].endswith("c.MGZ is of a format that is not read; convert it to .nii.gz")


def test_numbers_of_cases_are_no_channels_where_no_file_is_the_first(touch):
    cases, failures = find_scans(touch("scan_0001.nii.gz", "scan_0002.nii.gz"), ["FLAIR"])
    assert ([case.id for case in cases], failures) == (["scan_0001", "scan_0002"], {})


def test_two_files_for_one_channel_fail_the_case(touch):
    _, failures = find_scans(touch("a_0000.nii.gz", "a_0000.nii"), ["FLAIR"])
    assert "several files for one channel" in failures["a"]


def test_one_channel_needs_no_number(touch):
    cases, _ = find_scans(touch("a.nii.gz", "b_0000.nii.gz", "scan_0012.nii.gz", "scan_0013.mha"), ["FLAIR"])
    assert [case.id for case in cases] == ["a", "b", "scan_0012", "scan_0013"]


def test_one_file_is_one_scan(touch):
    cases, failures = find_scans(touch("a_0000.nii.gz", "b.nii.gz") / "a_0000.nii.gz", ["FLAIR"])
    assert [case.id for case in cases] == ["a"] and failures == {}


def test_a_fourth_axis_gives_the_channels(tmp_path, write_nifti, scan):
    write_nifti(tmp_path / "BRATS_900.nii.gz", np.stack([scan(0), scan(1)]))
    cases, failures = find_scans(tmp_path, ["FLAIR", "T1"])
    assert failures == {}
    image = read_image(cases[0].id, cases[0].channels, ["FLAIR", "T1"])
    np.testing.assert_array_equal(image.voxels[1], scan(1))


def test_one_volume_for_two_channels_fails_with_the_way_out(tmp_path, write_nifti, scan):
    path = write_nifti(tmp_path / "a.nii.gz", scan())
    _, failures = find_scans(path, ["FLAIR", "T1"])
    assert "holds 1 channel; the model needs 2 (FLAIR, T1); name the files <case>_0000" in failures["a"]


def test_case_folders_match_whole_words(touch):
    folder = touch(
        "p1/p1_T1.nii.gz",
        "p1/p1_T1ce.nii.gz",
        "p1/p1_flair.nii.gz",
        "p1/p1_seg.nii.gz",
        "p1/flair_mask.nii.gz",
        "p1/._p1_T1.nii.gz",
        "p2/anat/sub-02_FLAIR.nii",
        "p2/anat/sub-02_T1.nii",
    )
    cases, failures = find_scans(folder, ["FLAIR", "T1"])
    assert failures == {}
    assert [_names(case) for case in cases] == [
        ["p1_flair.nii.gz", "p1_T1.nii.gz"],
        ["sub-02_FLAIR.nii", "sub-02_T1.nii"],
    ]


def test_isles15_folders_match(make_siss):
    cases, failures = find_scans(make_siss() / "SISS2015_Training", ["FLAIR", "MR_DWI"])
    assert [case.id for case in cases] == ["1", "2", "3"] and failures == {}
    assert ["MR_Flair" in name for name in _names(cases[0])] == [True, False]


def test_the_longer_channel_name_wins(touch):
    cases, _ = find_scans(touch("p/x_T2.nii", "p/x_T2_FLAIR.nii"), ["T2", "T2-FLAIR"])
    assert _names(cases[0]) == ["x_T2.nii", "x_T2_FLAIR.nii"]


def test_a_channel_may_be_called_mask(touch):
    cases, _ = find_scans(touch("p/x_T1.nii", "p/x_mask.nii"), ["T1", "mask"])
    assert _names(cases[0]) == ["x_T1.nii", "x_mask.nii"]


def test_doubt_is_a_failure_that_lists_the_candidates(touch):
    _, failures = find_scans(touch("p/x_T1.nii", "p/y_T1.nii", "q/x_T1_FLAIR.nii"), ["T1"])
    assert "may be T1: x_T1.nii, y_T1.nii" in failures["p"]
    _, failures = find_scans(touch("q/x_T1_FLAIR.nii"), ["T1", "FLAIR"])
    assert "also named after FLAIR" in failures["q"]


def test_a_case_folder_without_a_channel_says_what_it_holds(touch):
    cases, failures = find_scans(touch("p/x_T1.nii", "q/x_T1.nii", "q/x_FLAIR.nii"), ["T1", "FLAIR"])
    assert [case.id for case in cases] == ["q"]
    assert "contains FLAIR" in failures["p"] and "files: x_T1.nii" in failures["p"]


def test_one_cases_own_folder_is_one_scan(touch):
    cases, _ = find_scans(touch("p/x_T1.nii", "p/x_FLAIR.nii") / "p", ["T1", "FLAIR"])
    assert [case.id for case in cases] == ["p"]


def test_nothing_to_predict_is_an_error(tmp_path):
    with pytest.raises(UsageError, match=r"holds no scans; expected <case>_0000.nii.gz"):
        find_scans(tmp_path, ["T1"])
    with pytest.raises(UsageError, match="does not exist"):
        find_scans(tmp_path / "gone", ["T1"])
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UsageError, match=r"notes.txt is not an image; use"):
        find_scans(tmp_path / "notes.txt", ["T1"])
