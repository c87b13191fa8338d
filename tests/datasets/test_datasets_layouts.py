"""Every layout with folders per case: recognised by its importer alone, listed with its oddities, read and imported."""

import json
import os
import re
from collections import Counter
from pathlib import Path

import layouts
import numpy as np
import pytest

from autoseg.core.errors import DataError, UsageError
from autoseg.datasets import IMPORTERS, find_dataset, open_dataset, read_case
from autoseg.options.datasets import KINDS

DATA = Path(os.environ.get("AUTOSEG_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture
def miniature(tmp_path):
    return lambda name: layouts.make(name, tmp_path / name)


def _found(folder):
    dataset = open_dataset(folder, "x")
    return dataset, {case.id: case for case in dataset.cases}


@pytest.mark.parametrize("name", layouts.MAKERS)
def test_each_miniature_is_recognised_by_its_importer_alone(name, miniature):
    folder = miniature(name)
    assert [kind for kind in IMPORTERS if IMPORTERS[kind].recognises(folder)] == [layouts.MAKERS[name][1]]
    assert open_dataset(folder, "x").kind == layouts.MAKERS[name][1]


def test_every_importer_has_a_miniature():
    elsewhere = {"nnunet", "msd", "isles22", "dicom"}  # made in conftest.py and in tests/dicom
    assert {kind for _, kind in layouts.MAKERS.values()} | elsewhere == set(IMPORTERS)


@pytest.mark.parametrize("name", layouts.MAKERS)
def test_every_case_reads_and_survives_the_import(name, miniature, tmp_path):
    source = miniature(name)
    before = {path: path.stat().st_mtime_ns for path in sorted(source.rglob("*"))}
    found = open_dataset(source, "x")
    imported = layouts.import_folder(source, tmp_path / "raw" / "x")
    for field in ("channels", "regions", "ignore_label", "left_out"):
        assert getattr(imported, field) == getattr(found, field)
    assert list(imported.labels.values()) == list(found.labels.values())
    for old, new in zip(found.cases, imported.cases, strict=True):
        assert (old.id, old.group, old.site) == (new.id, new.group, new.site)
        (image, label), (image_now, label_now) = read_case(found, old), read_case(imported, new)
        np.testing.assert_array_equal(image.voxels, image_now.voxels)
        np.testing.assert_array_equal(label.voxels, label_now.voxels)
        assert image_now.grid.matches(image.grid, tolerance_mm=1e-3)
        assert label.voxels.any()
    assert {path: path.stat().st_mtime_ns for path in sorted(source.rglob("*"))} == before


@pytest.mark.parametrize("name", layouts.MAKERS)
def test_hidden_files_of_another_system_change_nothing(name, miniature):
    folder = miniature(name)
    before = open_dataset(folder, "x")
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    assert open_dataset(folder, "x") == before


@pytest.mark.parametrize("name", layouts.MAKERS)
def test_names_in_upper_case_endings_are_found(name, miniature):
    folder = miniature(name)
    before = open_dataset(folder, "x")
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        ending = next((e for e in (".nii.gz", ".nii", ".mha", ".tif") if path.name.endswith(e)), None)
        if ending:
            path.rename(path.with_name(path.name[: -len(ending)] + ending.upper()))
    assert [case.id for case in open_dataset(folder, "x").cases] == [case.id for case in before.cases]


@pytest.mark.parametrize("kind", list(IMPORTERS))
def test_a_named_layout_that_is_not_there_says_what_it_looked_for(kind, tmp_path):
    (tmp_path / "scan.txt").write_text("nothing")
    with pytest.raises(DataError, match=re.escape(str(tmp_path))):
        find_dataset(tmp_path, "x", kind=kind)


def test_a_folder_with_two_datasets_is_refused_by_name(tmp_path):
    layouts.make("mouse", tmp_path / "downloads" / "mouse")
    layouts.make("brats23", tmp_path / "downloads" / "brats")
    with pytest.raises(
        UsageError, match=r"holds datasets of several layouts \(brats23, mouse\); give the folder of one"
    ):
        open_dataset(tmp_path / "downloads", "x")


def test_a_link_that_leads_back_up_ends(miniature):
    folder = miniature("mouse")
    (folder / "train_image" / "up").symlink_to(folder)
    assert len(open_dataset(folder, "x").cases) == 3


@pytest.mark.parametrize("name", layouts.MAKERS)
def test_the_folder_above_will_do(name, tmp_path):
    layouts.make(name, tmp_path / "downloads" / "it")
    above, inside = (open_dataset(tmp_path / "downloads" / part, "x") for part in (".", "it"))
    assert above.cases == inside.cases and above.left_out == inside.left_out


@pytest.mark.parametrize("name", ["lgg", "mouse", "bids"])
def test_two_copies_side_by_side_are_refused(name, tmp_path):
    for copy in ("one", "two"):
        layouts.make(name, tmp_path / "downloads" / copy)
    with pytest.raises(DataError, match=r"holds .* in several folders: one.*, two.*; give one"):
        open_dataset(tmp_path / "downloads", "x")


# ISLES 2015 SPES


def test_spes_has_seven_channels_penumbra_and_core(miniature):
    dataset, cases = _found(miniature("spes"))
    assert dataset.channels == ("T1c", "T2", "DWI", "CBF", "CBV", "TTP", "Tmax")
    assert dataset.labels == {"background": 0, "penumbra": 1, "core": 2}
    assert list(cases) == ["spes_01", "spes_02"]


def test_spes_takes_the_merged_label_of_three(miniature):
    folder = miniature("spes")
    single = next((folder / "SPES2015_Training" / "1").glob("*OT*/*.nii"))
    for part in ("corelabel", "penumbralabel", "mergedlabels"):
        single.with_name(f"{single.stem}_{part}.nii").write_bytes(single.read_bytes())
    single.unlink()
    [label] = _found(folder)[1]["spes_01"].labels
    assert label.name.endswith("_mergedlabels.nii")


def test_both_tasks_of_isles15_in_one_folder_are_refused(miniature, make_siss):
    siss = make_siss()
    (miniature("spes") / "SPES2015_Training").rename(siss / "SPES2015_Training")
    with pytest.raises(DataError, match="holds ISLES 2015 SISS and ISLES 2015 SPES; give the folder of one"):
        open_dataset(siss, "x")


# ATLAS


def test_atlas_2_names_sites_and_leaves_test_cases_out(miniature):
    dataset, cases = _found(miniature("atlas"))
    assert {id: (case.group, case.site) for id, case in cases.items()} == {
        "sub-r001s001_ses-1": ("sub-r001s001", "R001"),
        "sub-r002s014_ses-1": ("sub-r002s014", "R002"),
    }
    assert dataset.left_out == {"sub-r003s002_ses-1": "has no label"}


def test_atlas_12_unites_its_masks_of_0_and_255(miniature):
    dataset, cases = _found(miniature("atlas_12"))
    assert {id: (case.group, case.site) for id, case in cases.items()} == {
        "031768_t01": ("031768", "Site1"),
        "031768_t02": ("031768", "Site1"),
        "031999_t01": ("031999", "Site4"),
    }
    label = read_case(dataset, cases["031768_t01"])[1]
    assert np.unique(label.voxels).tolist() == [0, 1] and label.voxels.sum() == 25


def test_atlas_12_native_scans_are_taken_alone(miniature):
    _, cases = _found(miniature("atlas_12") / "ATLAS_R1.2" / "Native")
    assert {id: (case.group, case.site) for id, case in cases.items()} == {"c0001s0004t01": ("c0001s0004", "c0001")}


def test_both_releases_of_atlas_in_one_folder_are_refused(tmp_path):
    layouts.make("atlas", tmp_path / "both")
    layouts.make("atlas_12", tmp_path / "both")
    with pytest.raises(DataError, match=r"holds ATLAS R2\.0 and ATLAS R1\.2; give the folder of one"):
        open_dataset(tmp_path / "both", "x")


# BraTS


def test_brats15_keeps_its_five_values_and_groups_repeated_scans(miniature):
    dataset, cases = _found(miniature("brats15"))
    assert dataset.channels == ("FLAIR", "T1", "T1c", "T2")
    assert {id: case.group for id, case in cases.items()} == {
        "HGG_brats_2013_pat0001_1": "HGG_brats_2013_pat0001",
        "HGG_brats_tcia_pat105_0001": "HGG_brats_tcia_pat105",
        "HGG_brats_tcia_pat105_0124": "HGG_brats_tcia_pat105",
        "LGG_brats_2013_pat0001_1": "LGG_brats_2013_pat0001",
    }
    label = read_case(dataset, dataset.cases[0])[1]
    assert np.unique(label.voxels).tolist() == [0, 1, 2, 3, 4]
    assert {name: set(values) for name, values in dataset.regions.items()} == {
        "whole_tumour": {1, 2, 3, 4},
        "tumour_core": {1, 3, 4},
        "enhancing_tumour": {4},
    }


@pytest.mark.parametrize(
    ("year", "cases"),
    [
        (2019, {"BraTS19_CBICA_AAB_1": "CBICA", "BraTS19_TCIA10_103_1": "TCIA10"}),
        (2020, {"BraTS20_Training_001": None, "BraTS20_Training_355": None}),
        (2021, {"BraTS2021_00000": None, "BraTS2021_00002": None}),
    ],
)
def test_brats_makes_4_to_3_and_names_regions(year, cases, miniature):
    dataset, found = _found(miniature(f"brats_{year}"))
    assert {id: case.site for id, case in found.items()} == cases
    for case in dataset.cases:
        values = Counter(read_case(dataset, case)[1].voxels.ravel().tolist())
        assert (values[1], values[2], values[3]) == (6, 6, 6)  # as many as 1, 2 and 4 on disk
    assert {name: set(values) for name, values in dataset.regions.items()} == {
        "whole_tumour": {1, 2, 3},
        "tumour_core": {1, 3},
        "enhancing_tumour": {3},
    }


def test_brats_regions_are_painted_with_oedema_core_and_enhancing(miniature, tmp_path):
    layouts.import_folder(miniature("brats_2019"), tmp_path / "raw" / "x")
    content = json.loads((tmp_path / "raw" / "x" / "dataset.json").read_text())
    assert content["regions_class_order"] == [2, 1, 3]


def test_brats_validation_cases_are_left_out(miniature):
    assert open_dataset(miniature("brats_2020"), "x").left_out == {"BraTS20_Validation_001": "has no label"}


def test_brats_value_3_on_disk_is_unexpected(miniature):
    folder = miniature("brats_2019")
    path = next(folder.rglob("*_seg.nii.gz"))
    layouts.write(path, layouts.label(3))
    dataset = open_dataset(folder, "x")
    with pytest.raises(DataError, match="unexpected values 3; expected 1, 2, 4 on disk"):
        read_case(dataset, next(case for case in dataset.cases if path in case.labels))


def test_brats23_groups_by_patient(miniature):
    dataset, cases = _found(miniature("brats23"))
    assert {id: case.group for id, case in cases.items()} == {
        "BraTS-GLI-00002-000": "BraTS-GLI-00002",
        "BraTS-GLI-00002-001": "BraTS-GLI-00002",
        "BraTS-GLI-00017-000": "BraTS-GLI-00017",
    }
    assert [file.path.name[-10:-7] for file in dataset.cases[0].channels] == ["t2f", "t1n", "t1c", "t2w"]


def test_brats23_resection_cavities_of_2024_are_refused(miniature):
    folder = miniature("brats23")
    layouts.write(next(folder.rglob("*-00017-000-seg.nii.gz")), layouts.label(4))
    dataset, cases = _found(folder)
    with pytest.raises(DataError, match=r"case BraTS-GLI-00017-000: label .* holds the unexpected values 4"):
        read_case(dataset, cases["BraTS-GLI-00017-000"])


def test_brats23_tasks_are_not_mixed(miniature):
    folder = miniature("brats23")
    layouts.write(folder / "BraTS-MET-00001-000" / "BraTS-MET-00001-000-seg.nii.gz", layouts.label(1))
    with pytest.raises(DataError, match="holds BraTS 2023 in several folders: BraTS-GLI, BraTS-MET; give one"):
        open_dataset(folder, "x")


# LGG


def test_lgg_slices_become_volumes_in_the_order_of_their_numbers(miniature):
    dataset, cases = _found(miniature("lgg"))
    assert dataset.channels == ("pre-contrast", "FLAIR", "post-contrast")
    case = cases["TCGA_CS_4941_19960909"]
    assert (case.group, case.site) == ("TCGA_CS_4941", "CS")
    image, label = read_case(dataset, case)
    assert image.voxels.shape == (3, 11, 16, 18)
    assert image.grid.spacing == label.grid.spacing == (5.0, 1.0, 1.0)
    assert image.voxels[1, :, 0, 0].tolist() == [*range(1, 12)]
    assert np.argwhere(label.voxels.any((1, 2))).ravel().tolist() == [9]
    assert label.voxels[9, 4:6, 7:10].all() and label.voxels.sum() == 6


def test_lgg_import_names_cases_in_which_flair_stands_for_another_sequence(miniature, tmp_path, caplog):
    layouts.import_folder(miniature("lgg"), tmp_path / "raw" / "x")
    assert "pre-contrast and FLAIR hold the same voxels in one case: TCGA_DU_5849_19950405" in caplog.text


def test_lgg_patient_without_a_slice_or_a_mask_is_left_out(miniature):
    folder = miniature("lgg")
    first, second = sorted(path for path in (folder / "kaggle_3m").iterdir() if path.is_dir())
    (first / f"{first.name}_3.tif").unlink()
    (second / f"{second.name}_11_mask.tif").unlink()
    with pytest.raises(DataError) as caught:
        open_dataset(folder, "x")
    assert "lacks slice 3 of 1 to 11" in str(caught.value)
    assert f"has {second.name}_11.tif without its image or its mask" in str(caught.value)


def test_lgg_slices_of_two_sizes_are_an_error_with_the_file(miniature):
    folder = miniature("lgg")
    path = folder / "kaggle_3m" / "TCGA_CS_4941_19960909" / "TCGA_CS_4941_19960909_5.tif"
    layouts.sitk.WriteImage(layouts.sitk.GetImageFromArray(np.ones((8, 18, 3), np.uint8), isVector=True), str(path))
    dataset, cases = _found(folder)
    with pytest.raises(DataError, match=r"case TCGA_CS_4941.*_5\.tif is 8x18 pixels \(y,x\).*16x18"):
        read_case(dataset, cases["TCGA_CS_4941_19960909"])


# WMH


def test_wmh_ignores_other_pathology_and_names_sites(miniature):
    dataset, cases = _found(miniature("wmh"))
    assert (dataset.channels, dataset.ignore_label) == (("FLAIR", "T1"), 2)
    assert {id: case.site for id, case in cases.items()} == {
        "Amsterdam_GE3T_100": "Amsterdam_GE3T",
        "Singapore_50": "Singapore",
        "Utrecht_0": "Utrecht",
    }
    assert all(file.path.parent.name == "pre" for case in dataset.cases for file in case.channels)
    assert list(dataset.left_out) == ["Amsterdam_Philips_VU_PETMR_01_160"]
    assert "is a test case; to import test cases" in dataset.left_out["Amsterdam_Philips_VU_PETMR_01_160"]


@pytest.mark.parametrize("given", ["test", "training/Amsterdam", "training/Utrecht"])
def test_wmh_part_of_the_data_keeps_ids_and_sites(given, miniature):
    whole = miniature("wmh")
    _, cases = _found(whole / given)
    [(id, case)] = cases.items()
    assert (id, case.site) in {
        ("Amsterdam_Philips_VU_PETMR_01_160", "Amsterdam_Philips_VU_PETMR_01"),
        ("Amsterdam_GE3T_100", "Amsterdam_GE3T"),
        ("Utrecht_0", "Utrecht"),
    }


def test_wmh_without_the_corrected_scans_takes_the_original_ones(miniature):
    folder = miniature("wmh")
    for path in [path for path in folder.rglob("pre") if path.is_dir()]:
        path.rename(path.with_name("other"))
    dataset, _ = _found(folder)
    assert all(file.path.parent.name == "orig" for case in dataset.cases for file in case.channels)


# open MS data


def test_openms_takes_the_coregistered_space(miniature):
    dataset, cases = _found(miniature("openms"))
    assert dataset.channels == ("FLAIR", "T1", "T1c", "T2")
    assert {id: case.group for id, case in cases.items()} == {"patient01": "patient01", "patient02": "patient02"}
    assert all("coregistered" in file.path.parts for case in dataset.cases for file in case.channels)


def test_openms_raw_scans_need_resampling(miniature):
    dataset = open_dataset(miniature("openms") / "cross_sectional" / "raw", "x")
    with pytest.raises(DataError, match=r"channel T1 is not on the grid of channel FLAIR: .*8x20x30.*10x20x30"):
        read_case(dataset, dataset.cases[0])
    resampled = dataset.model_copy(update={"resample_channels": True})
    assert read_case(resampled, dataset.cases[0])[0].voxels.shape == (4, 10, 20, 30)


def test_openms_pairs_are_one_case_whose_label_is_the_change(miniature):
    dataset, cases = _found(miniature("openms_pairs"))
    assert dataset.channels == tuple(f"study{n}_{name}" for n in (1, 2) for name in ("FLAIR", "T1", "T2"))
    assert dataset.labels == {"background": 0, "lesion_change": 1}
    assert list(cases) == ["patient01", "patient02"]


def test_openms_archives_of_the_university_are_read_without_their_raw_scans(miniature):
    dataset, cases = _found(miniature("openms_archive"))
    assert dataset.channels == ("FLAIR", "T1", "T1c", "T2")
    assert cases["patient01"].channels[0].path.name == "patient01_FLAIR.nii.gz"
    assert cases["patient01"].channels[0].path.parent.name == "patient01"


def test_openms_both_databases_or_spaces_are_refused(tmp_path):
    layouts.make("openms", tmp_path / "both")
    layouts.make("openms_pairs", tmp_path / "both")
    with pytest.raises(DataError, match=r"cross-sectional and the open MS data, longitudinal; give the folder of one"):
        open_dataset(tmp_path / "both", "x")
    layouts.make("openms", tmp_path / "one")
    (tmp_path / "one" / "cross_sectional" / "coregistered").rename(tmp_path / "one" / "cross_sectional" / "MNI")
    with pytest.raises(DataError, match="several folders: cross_sectional/MNI, cross_sectional/raw; give one"):
        open_dataset(tmp_path / "one", "x")


def test_openms_patient_without_scans_does_not_take_channels_from_the_others(miniature):
    folder = miniature("openms")
    (folder / "cross_sectional" / "coregistered" / "patient02" / "T1WKS.nii.gz").unlink()
    dataset = open_dataset(folder, "x")
    assert dataset.channels == ("FLAIR", "T1", "T1c", "T2")
    assert dataset.left_out == {"patient02": "has no T1c"}


def test_openms_labels_alone_do_not_outvote_the_channels_of_a_few(miniature):
    folder = miniature("openms") / "cross_sectional" / "coregistered"
    for number in range(3, 9):
        layouts.write(folder / f"patient{number:02d}" / "consensus_gt.nii.gz", layouts.label(1))
    dataset = open_dataset(folder, "x")
    assert dataset.channels == ("FLAIR", "T1", "T1c", "T2") and len(dataset.cases) == 2
    assert set(dataset.left_out.values()) == {"has no FLAIR, no T1, no T1c, no T2"}
    for path in [path for path in folder.rglob("*.nii.gz") if "consensus" not in path.name]:
        path.unlink()
    with pytest.raises(DataError, match="holds labels without scans; unpack the scans too"):
        open_dataset(folder, "x")


# Mouse


def test_mouse_trains_on_train_and_val_and_thresholds_soft_masks(miniature):
    dataset, cases = _found(miniature("mouse"))
    assert sorted(cases) == ["M01", "M02", "M03"]
    assert dataset.left_out["M04"].startswith("is a test case")
    image, label = read_case(dataset, cases["M01"])
    assert label.voxels.sum() == 24
    np.testing.assert_allclose(image.grid.spacing, (0.5, 0.0997, 0.0997), rtol=1e-5)


def test_mouse_test_cases_by_themselves_are_cases(miniature, tmp_path):
    folder = miniature("mouse")
    for part in ("test_image", "test_mask"):
        (folder / part).rename((tmp_path / "alone").mkdir(exist_ok=True) or tmp_path / "alone" / part)
    assert [case.id for case in open_dataset(tmp_path / "alone", "x").cases] == ["M04"]


# BIDS


def test_bids_pairs_sessions_with_their_lesion_masks(miniature):
    dataset, cases = _found(miniature("bids"))
    assert dataset.channels == ("FLAIR", "T1w")  # gadolinium was given to one of three, and a series is no map
    assert dataset.labels == {"background": 0, "lesion": 1}
    assert {id: (case.group, case.site) for id, case in cases.items()} == {
        "sub-01_ses-1": ("sub-01", "Bern"),
        "sub-01_ses-2": ("sub-01", "Bern"),
        "sub-02_ses-1": ("sub-02", None),
    }
    assert read_case(dataset, dataset.cases[0])[1].voxels.sum() == 24


def test_bids_channel_on_the_masks_grid_comes_first(miniature):
    folder = miniature("bids")
    for path in folder.rglob("*_FLAIR.nii.gz"):
        layouts.write(path, layouts.scan(1, (5, 20, 30)), (2.0, 1.0, 1.0))
    assert open_dataset(folder, "x").channels == ("T1w", "FLAIR")


def test_bids_mask_without_session_belongs_to_a_subjects_only_one(miniature):
    folder = miniature("bids")
    for path in [*folder.rglob("*label-lesion_mask.nii.gz")]:
        path.rename(path.with_name(re.sub(r"_ses-\d", "", path.name)))
    dataset = open_dataset(folder, "x")
    assert [case.id for case in dataset.cases] == ["sub-02_ses-1"]
    assert sorted(dataset.left_out) == ["sub-01_ses-1", "sub-01_ses-2"]
    assert all("no label" in why for why in dataset.left_out.values())


def test_bids_two_masks_are_not_chosen_between(miniature):
    folder = miniature("bids")
    path = next(folder.rglob("sub-02*label-lesion_mask.nii.gz"))
    layouts.write(folder / "derivatives" / "automatic" / path.name.replace("_mask", "_dseg"), layouts.label(1))
    why = open_dataset(folder, "x").left_out["sub-02_ses-1"]
    assert "2 files for the label (" in why and "dseg" in why


def test_bids_labels_are_named_by_their_table(miniature):
    folder = miniature("bids")
    for path in [*folder.rglob("*label-lesion_mask.nii.gz")]:
        layouts.write(path, layouts.label(10, 20))
        path.rename(path.with_name(path.name.replace("label-lesion_mask", "desc-lesion_dseg")))
    (folder / "derivatives" / "manual" / "dseg.tsv").write_text("index\tname\n0\tnothing\n20\tcore\n10\tpenumbra\n")
    dataset = open_dataset(folder, "x")
    assert dataset.labels == {"background": 0, "penumbra": 1, "core": 2}
    assert np.unique(read_case(dataset, dataset.cases[0])[1].voxels).tolist() == [0, 1, 2]


# Real scans


def test_the_real_open_ms_patient_reads():
    folder = DATA / "open_ms"
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; set AUTOSEG_TEST_DATA")
    dataset = open_dataset(folder, "x")
    assert (dataset.kind, dataset.channels) == ("openms", ("FLAIR", "T1"))
    image, label = read_case(dataset, dataset.cases[0])
    assert image.voxels.shape == (2, 182, 218, 182) and label.voxels.any()


def test_a_real_lgg_patient_reads(tmp_path):
    import tarfile

    archive = DATA / "lgg" / "kaggle_3m.tar.xz"
    if not archive.is_file():
        pytest.skip(f"no real data in {archive}; set AUTOSEG_TEST_DATA")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    dataset, cases = _found(tmp_path)
    assert len(cases) == 4 and {case.site for case in dataset.cases} == {"CS", "HT"}
    image, label = read_case(dataset, cases["TCGA_CS_4944_20010208"])
    assert image.voxels.shape[0] == 3 and image.voxels.shape[2:] == (256, 256)
    assert np.unique(label.voxels).tolist() == [0, 1]
    inside, outside = image.voxels[1][label.voxels > 0], image.voxels[1][(label.voxels == 0) & (image.voxels[1] > 20)]
    assert inside.mean() > outside.mean()  # the label marks what is bright in FLAIR: slices lie where they belong


def test_the_commands_help_names_every_layout():
    assert list(KINDS) == list(IMPORTERS)
