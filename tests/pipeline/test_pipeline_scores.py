"""autoseg_evaluate and autoseg_compare on folders of tiny masks."""

import csv
import json

import numpy as np
import pytest

from autoseg.cli import compare, evaluate
from autoseg.core.images import write_voxels
from autoseg.core.records import Fold, Folds, Grid, Scores, ScoresComparison
from autoseg.core.store import read_record, write_record
from autoseg.evaluation import scoring

GRID = Grid(shape=(6, 8, 10), spacing=(2.0, 1.0, 1.0))
COMMANDS = {"evaluate": evaluate, "compare": compare}


@pytest.fixture
def call(capsys):
    """Run a command in this process; gives its exit code and both streams."""

    def run(name, *argv):
        with pytest.raises(SystemExit) as stop:
            COMMANDS[name]([*map(str, argv), "--workers", "1"])
        printed = capsys.readouterr()
        return stop.value.code, printed.out, printed.err

    return run


@pytest.fixture
def counted(monkeypatch):
    """Names of the cases that are really scored."""
    done = []
    real = scoring.score_case

    def count(case, *args, **options):
        done.append(case)
        return real(case, *args, **options)

    monkeypatch.setattr(scoring, "score_case", count)
    return done


def write_masks(folder, **lengths):
    """case -> a bar of so many voxels along x, of label 1."""
    for case, length in lengths.items():
        mask = np.zeros(GRID.shape, np.uint8)
        mask[2, 3, :length] = 1
        write_voxels(folder / f"{case}.nii.gz", mask, GRID)
    return folder


@pytest.fixture
def labels(tmp_path):
    return write_masks(tmp_path / "labels", a=4, b=4, c=4)


def dices(folder):
    scores = read_record(Scores, folder / "scores.json", advice="")
    return {case.case: case.scores["lesion"]["dice"] for case in scores.cases}


def test_a_second_run_scores_only_what_has_changed(call, counted, tmp_path, labels):
    masks = write_masks(tmp_path / "masks", a=4, b=2, c=1)
    assert call("evaluate", "-p", masks, "-r", labels, "-o", tmp_path / "out")[0] == 0
    first = (tmp_path / "out" / "scores.json").read_text()
    assert counted == ["a", "b", "c"]

    counted.clear()
    (masks / "a.nii.gz").touch()
    assert call("evaluate", "-p", masks, "-r", labels, "-o", tmp_path / "out")[0] == 0
    assert counted == []
    assert (tmp_path / "out" / "scores.json").read_text() == first

    write_masks(masks, b=4)
    assert call("evaluate", "-p", masks, "-r", labels, "-o", tmp_path / "out")[0] == 0
    assert counted == ["b"]
    assert dices(tmp_path / "out") == {"a": 1.0, "b": 1.0, "c": pytest.approx(0.4)}


@pytest.mark.parametrize(
    "change", [("--metrics", "dice"), ("--preset", "isles22"), ("--preset", "brats", "--metrics", "hd95")]
)
def test_other_settings_score_anew(call, counted, tmp_path, labels, change):
    masks = write_masks(tmp_path / "masks", a=4, b=2, c=1)
    call("evaluate", "-p", masks, "-r", labels)
    counted.clear()

    assert call("evaluate", "-p", masks, "-r", labels, *change)[0] == 0
    assert counted == ["a", "b", "c"]


def test_a_changed_label_or_damaged_copy_is_scored_anew(call, counted, tmp_path, labels):
    masks = write_masks(tmp_path / "masks", a=4, b=2, c=1)
    call("evaluate", "-p", masks, "-r", labels)
    counted.clear()
    write_masks(labels, a=8)
    (masks / "case_scores" / "b.json").write_text("{")

    assert call("evaluate", "-p", masks, "-r", labels)[0] == 0
    assert counted == ["a", "b"]


def test_a_bad_mask_stops_the_summary_and_the_others_are_kept(call, counted, tmp_path, labels):
    masks = write_masks(tmp_path / "masks", a=4, b=2, c=1)
    write_voxels(masks / "b.nii.gz", np.full(GRID.shape, 255, np.uint8), GRID)
    code, _, err = call("evaluate", "-p", masks, "-r", labels)

    assert code == 2
    assert "1 of 3 cases failed while scoring; the others are stored" in err
    assert "b: the prediction has the value 255" in err
    assert not (masks / "scores.json").exists()

    write_masks(masks, b=2)
    counted.clear()
    assert call("evaluate", "-p", masks, "-r", labels)[0] == 0
    assert counted == ["b"]


def test_missing_masks_get_the_worst_scores_and_are_named(call, tmp_path, labels):
    """The grid's diagonal is sqrt(12^2 + 8^2 + 10^2) mm."""
    masks = write_masks(tmp_path / "masks", a=4, b=4)
    argv = ("evaluate", "-p", masks, "-r", labels, "--metrics", "dice", "hd95", "volume_difference_ml")
    assert call(*argv)[0] == 2

    code, out, err = call(*argv, "--allow-missing")
    scores = read_record(Scores, masks / "scores.json", advice="")
    rows = list(csv.DictReader((masks / "scores.csv").open()))
    assert code == 0
    assert "1 of 3 references have no prediction and get the worst possible score: c" in err
    assert "1 of 3 cases without a prediction got the worst possible score: dice 0; hd95 the diagonal" in out
    assert scores.missing == ("c",)
    assert scores.cases[2].scores["lesion"] == pytest.approx(
        {"dice": 0.0, "hd95": 308**0.5, "volume_difference_ml": 0.008}
    )
    assert scores.summary["lesion"]["dice"].mean == pytest.approx(2 / 3)
    assert [row["missing"] for row in rows] == ["0", "0", "1"]


def test_a_mask_that_was_missing_is_scored_when_it_is_there(call, tmp_path, labels):
    masks = write_masks(tmp_path / "masks", a=4, b=4)
    call("evaluate", "-p", masks, "-r", labels, "--allow-missing")
    write_masks(masks, c=4)

    assert call("evaluate", "-p", masks, "-r", labels)[0] == 0
    assert dices(masks) == {"a": 1.0, "b": 1.0, "c": 1.0}


def test_only_some_cases(call, tmp_path, labels):
    masks = write_masks(tmp_path / "masks", a=4)

    assert call("evaluate", "-p", masks, "-r", labels, "--cases", "a")[0] == 0
    assert dices(masks) == {"a": 1.0}
    code, _, err = call("evaluate", "-p", masks, "-r", labels, "--cases", "a", "x")
    assert (code, "case x has no label" in err) == (2, True)


def test_the_held_out_cases_of_a_fold(call, tmp_path, labels):
    raw = tmp_path / "autoseg_raw" / "Tiny"
    for case in "abc":
        write_voxels(raw / "imagesTr" / f"{case}_0000.nii.gz", np.zeros(GRID.shape, np.float32), GRID)
    labels.rename(raw / "labelsTr")
    facts = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps(facts | {"numTraining": 3}))
    masks = write_masks(tmp_path / "masks", b=4)
    argv = ("evaluate", "-p", masks, "-d", "Tiny", "--root", tmp_path)
    code, _, err = call(*argv, "-f", "0")
    assert (code, "plan the dataset first: autoseg_plan -d Tiny" in err) == (2, True)

    folds = Folds(seed=1, folds=(Fold(train=("a", "c"), validation=("b",)), Fold(train=("b",), validation=("a",))))
    write_record(tmp_path / "autoseg_preprocessed" / "Tiny" / "folds.json", folds)
    assert call(*argv, "-f", "0")[0] == 0
    assert dices(masks) == {"b": 1.0}
    assert "unknown fold 2" in call(*argv, "-f", "2")[2]
    assert "fold 1 does not hold out case b" in call(*argv, "-f", "1", "--cases", "b")[2]


@pytest.mark.parametrize("argv", [("-d", "Tiny"), ("-r", "autoseg_raw/Tiny/labelsTr")])
def test_intervals_are_by_patient(call, tmp_path, labels, monkeypatch, argv):
    """Dice 1, 2/3 and 0.4; a and b are scans of one patient, so a resample is one of the patients' means or all."""
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "autoseg_raw" / "Tiny"
    for case in "abc":
        write_voxels(raw / "imagesTr" / f"{case}_0000.nii.gz", np.zeros(GRID.shape, np.float32), GRID)
    labels.rename(raw / "labelsTr")
    facts = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
    facts |= {"numTraining": 3, "groups": {"a": "p", "b": "p"}}
    (raw / "dataset.json").write_text(json.dumps(facts))
    masks = write_masks(tmp_path / "masks", a=4, b=2, c=1)
    code, _, err = call("evaluate", "-p", masks, *argv)
    assert code == 0, err
    scores = read_record(Scores, masks / "scores.json", advice="")

    assert [case.group for case in scores.cases] == ["p", "p", None]
    assert scores.summary["lesion"]["dice"].interval == (pytest.approx(0.4), pytest.approx(5 / 6))


def test_a_fold_needs_a_dataset(call, tmp_path, labels):
    code, _, err = call("evaluate", "-p", labels, "-r", labels, "-f", "0", "-o", tmp_path / "out")

    assert (code, "--fold needs a planned dataset; name it with -d" in err) == (2, True)


def test_preset_of_wmh_leaves_other_pathology_out_of_both_masks(call, tmp_path):
    """Label: 4 voxels of WMH, 4 of other pathology; the prediction covers all 8."""
    label = np.zeros(GRID.shape, np.uint8)
    label[2, 3, :4], label[2, 3, 4:8] = 1, 2
    write_voxels(tmp_path / "labels" / "a.nii.gz", label, GRID)
    masks = write_masks(tmp_path / "masks", a=8)
    code, out, _ = call("evaluate", "-p", masks, "-r", tmp_path / "labels", "--preset", "wmh")
    scores = read_record(Scores, masks / "scores.json", advice="")

    assert code == 0
    assert "where the reference holds label 2 (other pathology), neither mask counts" in out
    assert scores.preset == "wmh"
    assert list(scores.cases[0].scores.values()) == [
        {"dice": 1, "hd95_in_plane": 0, "volume_difference_percent": 0, "lesion_recall": 1, "lesion_f1_wmh": 1}
    ]


def test_preset_of_brats_scores_regions(call, tmp_path):
    """Enhancing tumour is overlooked: 374 mm; the whole tumour is found exactly."""
    label = np.zeros(GRID.shape, np.uint8)
    label[1:5, :, 0:2], label[1:5, :, 2:4], label[1:5, :, 4:8] = 1, 2, 3
    write_voxels(tmp_path / "labels" / "a.nii.gz", label, GRID)
    write_voxels(tmp_path / "masks" / "a.nii.gz", np.where(label == 3, 2, label).astype(np.uint8), GRID)
    code, _, _ = call("evaluate", "-p", tmp_path / "masks", "-r", tmp_path / "labels", "--preset", "brats")
    found = read_record(Scores, tmp_path / "masks" / "scores.json", advice="").cases[0].scores

    assert code == 0
    assert list(found) == ["whole_tumour", "tumour_core", "enhancing_tumour"]
    assert found["whole_tumour"]["lesionwise_dice"] == 1.0
    assert (found["enhancing_tumour"]["hd95"], found["enhancing_tumour"]["lesionwise_hd95"]) == (374.0, 374.0)


@pytest.mark.parametrize("boxed", [False, True])
def test_average_precision_reads_the_probabilities_beside_the_mask(call, tmp_path, labels, boxed):
    """0.9 in 2 of the 4 voxels, 0.8 in one voxel of background, 0.7 in the other 2: (1 + 1 + 4/5 + 4/5) / 4."""
    masks = write_masks(tmp_path / "masks", a=3)
    argv = ("evaluate", "-p", masks, "-r", labels, "--cases", "a", "--metrics", "average_precision")
    code, _, err = call(*argv)
    assert (code, "average_precision needs" in err, "predict with --probabilities" in err) == (2, True, True)

    lesion = np.zeros(GRID.shape, np.float16)
    lesion[2, 3, :5] = 0.9, 0.9, 0.7, 0.7, 0.8
    stored = {"probabilities": np.stack([1 - lesion, lesion]), "names": ["background", "lesion"], "values": [0, 1]}
    if boxed:
        stored["probabilities"] = stored["probabilities"][:, 1:4, 2:6]
        stored |= {"box": np.array([(1, 4), (2, 6), (0, 10)]), "shape": np.array(GRID.shape)}
    np.savez_compressed(masks / "a.npz", **stored)
    assert call(*argv)[0] == 0
    found = read_record(Scores, masks / "scores.json", advice="").cases[0].scores["lesion"]["average_precision"]
    assert found == pytest.approx((1 + 1 + 0.8 + 0.8) / 4)


def test_probabilities_of_another_label_are_refused(call, tmp_path, labels):
    masks = write_masks(tmp_path / "masks", a=3)
    np.savez_compressed(
        masks / "a.npz", probabilities=np.zeros((1, *GRID.shape), np.float16), names=["tumour"], values=[1]
    )
    code, _, err = call("evaluate", "-p", masks, "-r", labels, "--cases", "a", "--metrics", "average_precision")

    assert code == 2
    assert "holds tumour and not lesion" in err


def test_compare_reads_scores_and_writes_a_comparison(call, tmp_path, labels):
    for name, lengths in (("one", {"a": 4, "b": 2, "c": 1}), ("two", {"a": 4, "b": 4, "c": 2})):
        call("evaluate", "-p", write_masks(tmp_path / name, **lengths), "-r", labels, "--metrics", "dice")
    code, out, _ = call("compare", tmp_path / "one", tmp_path / "two" / "scores.json", "-o", tmp_path / "out")
    found = read_record(ScoresComparison, tmp_path / "out" / "comparison.json", advice="")

    assert code == 0
    assert (found.pairs[0].wins, found.pairs[0].ties, found.pairs[0].losses) == (2, 1, 0)
    assert found.ranking == ()
    assert out.startswith("first: one, second: scores.json\n")
    assert (tmp_path / "out" / "comparison.csv").read_text().count("\n") == 2


def test_compare_scores_masks_alike_and_ranks_three(call, tmp_path, labels):
    folders = [write_masks(tmp_path / name, a=n, b=n, c=n) for name, n in (("x", 1), ("y", 4), ("z", 2))]
    code, out, _ = call("compare", *folders, "-r", labels, "--preset", "isles22", "-o", tmp_path / "out")
    found = read_record(ScoresComparison, tmp_path / "out" / "comparison.json", advice="")

    assert code == 0
    assert [rank.name for rank in found.ranking] == ["y", "z", "x"]
    assert list(found.conventions) == ["dice", "volume_difference_ml", "lesion_count_difference", "lesion_f1"]
    assert "mean rank" in out
    assert read_record(Scores, tmp_path / "out" / "x" / "scores.json", advice="").preset == "isles22"


def test_compare_of_other_cases(call, tmp_path, labels):
    one, two = write_masks(tmp_path / "one", a=4, b=2, c=3), write_masks(tmp_path / "two", a=4, b=2)
    argv = ("compare", one, two, "-r", labels, "--metrics", "dice")
    code, _, err = call(*argv)
    assert (code, "1 of 3 references have no prediction (c)" in err) == (2, True)
    assert call(*argv, "--common-cases")[0] == 0
    code, out, _ = call(*argv, "--allow-missing")
    assert code == 0
    assert "-0.286" in out  # (0 - 6/7) / 3
    assert not (tmp_path / "one" / "scores.json").exists()


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["one"], "give at least two folders to compare"),
        (["one", "one"], "is given twice"),
        (["one", "two"], "two has no scores.json; score it with autoseg_evaluate, or give the labels"),
        (["one", "two", "--preset", "wmh"], "--preset scores masks, which needs their labels; give them with -r or -d"),
        (["one", "two", "--allow-missing"], "--allow-missing scores masks"),
    ],
)
def test_what_compare_cannot_do(call, tmp_path, labels, monkeypatch, argv, told):
    monkeypatch.chdir(tmp_path)
    call("evaluate", "-p", write_masks(tmp_path / "one", a=4, b=2, c=3), "-r", labels)
    write_masks(tmp_path / "two", a=4)
    code, _, err = call("compare", *argv)

    assert (code, told in err) == (2, True)


def test_folders_of_one_name_are_told_apart(call, tmp_path, labels):
    for name in ("2d", "3d"):
        folder = write_masks(tmp_path / name / "fold_0", a=4, b=4, c=4)
        call("evaluate", "-p", folder, "-r", labels, "--metrics", "dice")
    _, out, _ = call("compare", tmp_path / "2d" / "fold_0", tmp_path / "3d" / "fold_0")

    assert out.startswith("first: 2d/fold_0, second: 3d/fold_0\n")


@pytest.mark.parametrize("values", [(1, 2), (1, 300), (3, 30000), (0.99999997, 2.0)])
def test_labels_are_named_after_the_values_that_occur(call, tmp_path, values):
    """Without a dataset.json; a header's slope may leave values a little beside whole numbers."""
    label = np.zeros(GRID.shape, np.float32 if isinstance(values[0], float) else np.int32)
    label[1, 1, :3], label[3, 3, :3] = values
    write_voxels(tmp_path / "labels" / "a.nii.gz", label, GRID)
    masks = tmp_path / "masks"
    write_voxels(masks / "a.nii.gz", np.rint(label).astype(np.int32), GRID)

    assert call("evaluate", "-p", masks, "-r", tmp_path / "labels", "--metrics", "dice")[0] == 0
    found = read_record(Scores, masks / "scores.json", advice="").cases[0].scores
    assert found == {f"label_{round(value)}": {"dice": 1.0} for value in values}
