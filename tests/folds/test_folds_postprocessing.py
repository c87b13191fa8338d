"""Post-processing that held-out cases choose after a training, and that autoseg_predict applies.

A stand-in for the network finds bright voxels, and an island far from them: larger than what it finds of a lesion in
some other cases, so that no smallest volume separates the two.
"""

import json
import shutil

import numpy as np
import pytest

from autoseg.core.errors import MemoryShortageError
from autoseg.core.images import read_voxels, write_voxels
from autoseg.core.records import ModelPostProcessing, PostProcessing
from autoseg.core.store import Store, read_record, write_record
from autoseg.folds import held_out
from autoseg.folds.postprocessing import SettingSearch
from autoseg.model import load_plan
from autoseg.prediction import case as prediction_case
from autoseg.prediction import loaded, open_model, overlapping
from autoseg.preparation import open_raw

LARGEST = {"lesion": PostProcessing(largest_lesions=1)}
BRIGHT = 4.5  # standard deviations; a lesion has 6.7


def find_lesion(case):
    """(z,y,x) bool: all of the lesion, or in two cases one of its three slices."""
    lesion = np.asarray(case.image[0]) > BRIGHT
    if lesion.any() and case.id in ("case3", "case5"):
        lesion[lesion.any(axis=(1, 2)).argmax() + 1 :] = False
    return lesion


def with_island(case):
    """The lesion of 60 or 20 voxels, and an island of 50 or 10; nothing where there is no lesion."""
    mask = find_lesion(case)
    if mask.any():
        mask[0, :5, : 2 if case.id in ("case3", "case5") else 10] = True
    return mask


def in_two_parts(case):
    """The lesion without its second slice."""
    lesion = find_lesion(case)
    if lesion.any():
        lesion[lesion.any(axis=(1, 2)).argmax() + 1] = False
    return lesion


def first_slice(case):
    """The first slice of the lesion."""
    lesion = find_lesion(case)
    if lesion.any():
        lesion[lesion.any(axis=(1, 2)).argmax() + 1 :] = False
    return lesion


@pytest.fixture
def network(monkeypatch):
    """Put functions of the case, (z,y,x) bool, in the network's place: one for a lesion, or one for each region."""

    def replace(*functions):
        def rows(model, case, device, **options):
            logits = [np.where(find(case), 3, -3).astype(np.float32) for find in functions]
            yield np.stack(logits if len(logits) > 1 else [-logits[0], logits[0]])

        for module in (prediction_case, loaded, overlapping):
            monkeypatch.setattr(module, "case_rows", rows)

    return replace


@pytest.fixture
def split(planned):
    """Set the held-out cases of each fold; every fold trains on case0 and what is left."""

    def write(*held_out_cases):
        path = planned / "autoseg_preprocessed" / "Tiny" / "folds.json"
        names = [f"case{number}" for number in range(6)]
        folds = json.loads(path.read_text())
        folds["folds"] = [
            {"train": [name for name in names if name not in cases], "validation": list(cases)}
            for cases in held_out_cases
        ]
        path.write_text(json.dumps(folds))
        return planned / "autoseg_results" / "Tiny" / "3d"

    return write


FIVE = ("case1", "case2", "case3", "case4", "case5")


@pytest.fixture
def train_fold(run, planned):
    def call(fold, *options):
        code, _, err = run("train", "-d", "Tiny", "-c", "3d", "-f", fold, "--epochs", 1, "--steps-per-epoch", 1,
                           "--device", "cpu", "--root", planned, *options)  # fmt: skip
        assert code == 0, err
        return err

    return call


@pytest.fixture
def predict(run, planned, tmp_path):
    """Predict the dataset's scans; gives the log, and case -> (Z,Y,X) mask."""

    def call(*options):
        scans, masks = planned / "autoseg_raw" / "Tiny" / "imagesTr", tmp_path / "masks"
        code, _, err = run("predict", "-i", scans, "-o", masks, "-d", "Tiny", "-c", "3d", "--device", "cpu",
                           "--engine", "torch", "--root", planned, *options)  # fmt: skip
        assert code == 0, err
        return err, {path.name[:5]: read_voxels(path)[0] for path in masks.glob("*.nii.gz")}

    return call


def read_choice(folder):
    return read_record(ModelPostProcessing, folder / "postprocessing.json", advice="")


def read_table(folder, fold, case):
    return folder / f"fold_{fold}" / "postprocessing" / f"{case}.npz"


def test_an_island_that_hurts_is_removed_from_new_masks(split, network, train_fold, predict, planned, tmp_path):
    folder = split(FIVE)
    network(with_island)
    err = train_fold(0)
    chosen = read_choice(folder)
    assert chosen.settings == LARGEST
    assert (chosen.folds, chosen.cases, chosen.patients) == (("0",), 5, 5)
    # Without: 120/170 in two cases, 40/90 in two, 1 in the case without a lesion; with: 1, 0.5 and 1.
    assert chosen.target_before == pytest.approx((2 * 120 / 170 + 2 * 40 / 90 + 1) / 5)
    assert chosen.target_after == pytest.approx((2 * 1 + 2 * 0.5 + 1) / 5)
    assert "post-processing of lesion: only the largest lesion; mean dice of 5 held-out cases" in err

    scores = json.loads((folder / "fold_0" / "scores.json").read_text())
    plain = {case["case"]: case["scores"]["lesion"]["dice"] for case in scores["cases"]}
    assert plain["case2"] == pytest.approx(120 / 170)  # of masks as predicted
    assert np.count_nonzero(read_voxels(folder / "fold_0" / "validation" / "case2.nii.gz")[0]) == 110

    err, masks = predict()
    assert "post-processing of lesion: only the largest lesion (--no-postprocessing leaves it out)" in err
    assert np.count_nonzero(masks["case2"]) == 60
    record = json.loads((tmp_path / "masks" / "predictions" / "case2.nii.gz.json").read_text())
    assert record["postprocessing"]["lesion"]["largest_lesions"] == 1

    image = np.stack(
        [read_voxels(planned / f"autoseg_raw/Tiny/imagesTr/case2_{channel:04d}.nii.gz")[0] for channel in (0, 1)]
    )
    for applied, voxels in ((True, 60), (False, 110)):
        model = open_model(folder, None, "cpu", postprocessing=applied)
        assert np.count_nonzero(model.predict(image, spacing=(2.0, 1.0, 1.0))) == voxels


def test_without_it_masks_are_as_predicted_and_a_mask_of_the_other_kind_is_replaced(
    split, network, train_fold, predict
):
    split(FIVE)
    network(with_island)
    train_fold(0)
    _, masks = predict()
    assert np.count_nonzero(masks["case2"]) == 60
    err, masks = predict("--no-postprocessing")
    assert "holds 6 masks of another model or of other options" in err
    assert "post-processing" not in err
    assert np.count_nonzero(masks["case2"]) == 110
    err, masks = predict()
    assert "holds 6 masks of another model or of other options" in err
    assert np.count_nonzero(masks["case2"]) == 60
    assert "6 of the masks exist already" in predict()[0]


def test_a_threshold_is_applied_to_probabilities(split, network, train_fold, predict):
    folder = split(FIVE)
    network(find_lesion)
    train_fold(0)
    found = read_choice(folder)
    write_record(folder / "postprocessing.json", found.model_copy(
        update={"settings": {"lesion": PostProcessing(threshold=0.999, largest_lesions=1)}}
    ))  # fmt: skip
    _, masks = predict()
    assert not any(mask.any() for mask in masks.values())  # 0.9975 everywhere


def test_where_removing_hurts_nothing_is_chosen(split, network, train_fold, predict):
    folder = split(FIVE)
    network(in_two_parts)
    err = train_fold(0)
    assert read_choice(folder).settings == {}
    assert "no setting improved the 5 held-out cases by more than noise" in err
    err, masks = predict()
    assert "post-processing" not in err
    assert np.count_nonzero(masks["case2"]) == 40


def test_few_patients_choose_nothing_until_other_folds_join_them(split, network, train_fold):
    folder = split(("case2", "case3", "case4"), ("case0", "case5"))
    network(with_island)
    err = train_fold(0)
    assert read_choice(folder).settings == {}
    assert "3 patients are held out by its finished folds, and a choice needs 5" in err
    train_fold(1)
    chosen = read_choice(folder)
    assert chosen.folds == ("0", "1")
    assert chosen.settings == LARGEST

    train_fold("all")
    assert read_choice(folder) == chosen
    train_fold(1, "--restart", "--no-postprocessing")
    assert not (folder / "postprocessing.json").exists()  # chosen by a fold that is gone
    assert not read_table(folder, 1, "case5").exists()


def test_patients_count_not_cases(split, network, train_fold, run, planned):
    folder = split(FIVE)
    facts = planned / "autoseg_raw" / "Tiny" / "dataset.json"
    groups = {"groups": dict.fromkeys(FIVE[:2], "one patient")}
    facts.write_text(json.dumps(json.loads(facts.read_text()) | groups))
    assert run("plan", "-d", "Tiny", "--keep", "--workers", 1, "--device", "cpu", "--root", planned)[0] == 0
    network(with_island)
    err = train_fold(0)
    assert read_choice(folder).patients == 4
    assert "4 patients are held out" in err


def test_the_search_can_be_left_out(split, network, train_fold, predict):
    folder = split(FIVE)
    network(with_island)
    assert "post-processing" not in train_fold(0, "--no-postprocessing")
    assert not (folder / "postprocessing.json").exists()
    assert not (folder / "fold_0" / "postprocessing").exists()
    assert np.count_nonzero(predict()[1]["case2"]) == 110


def test_a_stopped_prediction_resumes_with_what_is_scored(split, network, train_fold, planned):
    folder = split(FIVE)
    network(with_island)
    train_fold(0)
    before = read_choice(folder)
    times = {case: read_table(folder, 0, case).stat().st_mtime_ns for case in FIVE}
    read_table(folder, 0, "case4").unlink()
    read_table(folder, 0, "case5").write_bytes(b"cut off")
    (folder / "postprocessing.json").unlink()
    train_fold(0)
    assert read_choice(folder) == before
    again = {case for case in FIVE if read_table(folder, 0, case).stat().st_mtime_ns != times[case]}
    assert again == {"case4", "case5"}

    label = planned / "autoseg_raw" / "Tiny" / "labelsTr" / "case2.nii.gz"
    shutil.copyfile(label.with_name("case3.nii.gz"), label)
    search = SettingSearch(dataset=open_raw(Store(planned), "Tiny"), outputs=load_plan(folder).outputs)
    assert [case for case in FIVE if not search.is_scored(folder / "fold_0", case)] == ["case2"]


def test_stored_probabilities_are_searched_without_predicting_again(split, network, train_fold, monkeypatch):
    folder = split(FIVE)
    network(with_island)
    train_fold(0, "--probabilities", "--no-postprocessing")

    def refuse(*arguments):
        raise AssertionError("a network was opened")

    monkeypatch.setattr(held_out, "load_model", refuse)
    train_fold(0)
    assert read_choice(folder).settings == LARGEST


def test_probabilities_that_do_not_fit_into_memory_are_no_reason_to_fail(split, network, train_fold, monkeypatch):
    folder = split(FIVE)
    network(with_island)

    def refuse(*arguments):
        raise MemoryShortageError("no room")

    monkeypatch.setattr(held_out, "predict_probabilities", refuse)
    err = train_fold(0)
    assert "case case2 is left out of the search for post-processing: no room" in err
    assert read_choice(folder).settings == {}
    assert (folder / "fold_0" / "scores.json").exists()


def test_settings_of_a_label_that_the_model_lacks_are_refused(split, network, train_fold, run, planned, tmp_path):
    folder = split(FIVE)
    network(with_island)
    train_fold(0)
    found = read_choice(folder)
    write_record(folder / "postprocessing.json", found.model_copy(update={"settings": {"edema": PostProcessing()}}))
    code, _, err = run("predict", "-i", planned / "autoseg_raw/Tiny/imagesTr", "-o", tmp_path / "masks", "-c", "3d",
                       "--root", planned)  # fmt: skip
    assert code == 2
    assert "post-processes 'edema', which is not a label of its model" in err


def test_regions_are_post_processed_each_by_itself(root, network, run, tmp_path):
    """The inner region is the lesion's first slice; the island is of the outer one."""
    facts = root / "autoseg_raw" / "Tiny" / "dataset.json"
    labels = {"labels": {"background": 0, "whole": [1, 2], "inner": [2]}, "regions_class_order": [1, 2]}
    facts.write_text(json.dumps(json.loads(facts.read_text()) | labels))
    for path in (root / "autoseg_raw" / "Tiny" / "labelsTr").glob("*.nii.gz"):
        voxels, grid = read_voxels(path)
        if voxels.any():
            voxels[voxels.any(axis=(1, 2)).argmax()] *= 2
        write_voxels(path, voxels, grid)
    common = ("-d", "Tiny", "--root", root)
    assert run("plan", *common, "--preset", "pocket", "--workers", 1, "--device", "cpu")[0] == 0
    path = root / "autoseg_preprocessed" / "Tiny" / "folds.json"
    folds = json.loads(path.read_text())
    folds["folds"] = [{"train": ["case0"], "validation": list(FIVE)}]
    path.write_text(json.dumps(folds))
    network(with_island, first_slice)
    code, _, err = run("train", *common, "-c", "3d", "-f", 0, "--epochs", 1, "--steps-per-epoch", 1, "--device", "cpu")
    assert code == 0, err
    folder = root / "autoseg_results" / "Tiny" / "3d"
    assert read_choice(folder).settings == {"whole": LARGEST["lesion"]}
    scans = root / "autoseg_raw" / "Tiny" / "imagesTr"
    code, _, err = run("predict", "-i", scans, "-o", tmp_path / "masks", "-d", "Tiny", "-c", "3d", "--engine", "torch",
                       "--device", "cpu", "--root", root)  # fmt: skip
    assert code == 0, err
    assert "post-processing of whole: only the largest lesion" in err
    mask = read_voxels(tmp_path / "masks" / "case2.nii.gz")[0]
    assert [np.count_nonzero(mask == value) for value in (1, 2)] == [40, 20]
