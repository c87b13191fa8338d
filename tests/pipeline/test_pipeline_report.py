"""autoseg_report and autoseg_predict --report, as a person runs them."""

import csv
import gzip
import io
import json
import shutil

import pytest
from matplotlib.image import imread

from autoseg.cli import predict, report
from autoseg.core.records import CaseLesions, CaseScores
from autoseg.evaluation import summarize
from autoseg.pipeline.report import choose_cases
from autoseg.prediction.records import read_case_records
from autoseg.preparation import read_plan
from autoseg.reporting import ShownScores, list_targets


@pytest.fixture
def write(capsys, trained):
    """Run autoseg_report; gives exit code and what went to standard error."""

    def call(*argv):
        with pytest.raises(SystemExit) as stop:
            report(["-d", "Tiny", "--root", str(trained), *map(str, argv)])
        return stop.value.code, capsys.readouterr().err

    return call


@pytest.fixture
def results(trained):
    return trained / "autoseg_results" / "Tiny"


@pytest.fixture(scope="module")
def predicted_template(trained_template, tmp_path_factory):
    """A root, three scans, and what --report makes of them; tests copy it."""
    base = tmp_path_factory.mktemp("predicted")
    shutil.copytree(trained_template / "autoseg_results", base / "root" / "autoseg_results")
    (base / "scans").mkdir()
    for path in (trained_template / "autoseg_raw" / "Tiny" / "imagesTr").glob("case[012]_*"):
        shutil.copy2(path, base / "scans")
    assert predict_into(base) == 0
    return base


@pytest.fixture
def base(predicted_template, tmp_path):
    """A copy of the predicted folder."""
    shutil.copytree(predicted_template, tmp_path / "base")
    return tmp_path / "base"


def predict_into(base, *options):
    """Run autoseg_predict --report on the scans of a base; gives its exit code."""
    argv = ["-i", base / "scans", "-o", base / "masks", "--root", base / "root", "--report", "-q", *options]
    with pytest.raises(SystemExit) as stop:
        predict([str(argument) for argument in argv])
    return stop.value.code


def read_table(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_a_report_of_one_fold(write, results, trained):
    code, err = write()
    page = (results / "report.html").read_text()
    held_out = json.loads((results / "3d" / "fold_0" / "fold.json").read_text())["validation"]

    assert code == 0, err
    assert all(f'<span class="case">{case}</span>' in page for case in held_out)
    assert page.count('class="viewer"') == len(held_out) <= 3
    assert "data:image/jpeg;base64," in page
    assert str(trained) not in page


def test_it_goes_where_it_is_told_and_without_pictures(write, results, tmp_path):
    code, _ = write("-o", tmp_path / "here" / "mine.html", "--no-pictures", "-c", "3d")
    page = (tmp_path / "here" / "mine.html").read_text()

    assert code == 0
    assert not (results / "report.html").exists()
    assert "data:image" not in page
    assert "This report was made without pictures." in page


def test_nothing_trained_is_an_error_that_says_what_to_do(write, results):
    shutil.rmtree(results)

    assert write()[0] == 2
    assert "train a fold with: autoseg_train -d Tiny -c 3d -f 0" in write()[1]


def test_a_configuration_that_is_not_trained_is_an_error(write):
    code, err = write("-c", "2d")

    assert code == 2
    assert "no fold of '2d' is trained" in err
    assert err.rstrip().endswith("choose from: 3d")


@pytest.mark.parametrize("name", ["fold.json", "scores.json", "history.jsonl"])
def test_a_damaged_record_is_an_error_that_names_the_file(write, results, name):
    (results / "3d" / "fold_0" / name).write_text("{")
    code, err = write()

    assert code == 2
    assert name in err
    assert not (results / "report.html").exists()


def test_scans_that_are_gone_leave_their_pictures_out(write, results, trained):
    shutil.rmtree(trained / "autoseg_raw" / "Tiny")
    code, _ = write()
    page = (results / "report.html").read_text()

    assert code == 0
    assert "No pictures, because the scans cannot be read" in page
    assert "data:image" not in page


def test_one_damaged_scan_leaves_one_picture_out_and_says_so(write, results, trained):
    held_out = json.loads((results / "3d" / "fold_0" / "fold.json").read_text())["validation"]
    (trained / "autoseg_raw" / "Tiny" / "imagesTr" / f"{held_out[0]}_0000.nii.gz").write_bytes(b"")
    code, err = write()

    assert code == 0
    assert f"{held_out[0]}_0000.nii.gz is empty (0 bytes)" in err
    assert "case is not shown" in (results / "report.html").read_text()


def test_a_fold_that_was_only_begun_is_reported_without_scores(write, results):
    for name in ("model.safetensors", "scores.json"):
        (results / "3d" / "fold_0" / name).unlink()
    code, _ = write()

    assert code == 0
    assert "No fold has scores of held-out cases yet" in (results / "report.html").read_text()


def test_changed_folds_are_named(write, results, trained):
    path = trained / "autoseg_preprocessed" / "Tiny" / "folds.json"
    folds = json.loads(path.read_text())
    folds["folds"] = folds["folds"][1:]
    path.write_text(json.dumps(folds))
    write()

    assert "folds.json has changed since 3d fold 0 was trained." in (results / "report.html").read_text()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.5], ["Only 0"]),
        ([0.5, 0.2], ["Worst 1", "Best 0"]),
        ([0.5, 0.2, None, 0.9, 0.7], ["Worst 1", "Median 4", "Best 3"]),
        ([0.5, 0.5, 0.5], ["Worst 0", "Median 1", "Best 2"]),
        ([None], []),
    ],
)
@pytest.mark.parametrize(("metric", "sign"), [("dice", 1), ("hd95", -1)])
def test_worst_median_and_best_are_by_the_metric_s_direction(values, expected, metric, sign):
    cases = [
        CaseScores(
            case=str(number),
            scores={"lesion": {metric: None if value is None else sign * value}},
            reference_volume_ml={"lesion": 1.0},
            prediction_volume_ml={"lesion": 1.0},
        )
        for number, value in enumerate(values)
    ]
    shown = ShownScores(name="3d", scores=summarize(cases, [metric]), folds={}, target=metric)

    assert [f"{role} {case.case}" for role, case in choose_cases(shown)] == expected


def test_predict_writes_lesions_and_a_picture_of_every_case(predicted_template):
    masks = predicted_template / "masks"
    cases, lesions = read_table(masks / "lesions_per_case.csv"), read_table(masks / "lesions.csv")

    assert [row["case"] for row in cases] == ["case0", "case1", "case2"]
    for row in cases:
        own = [lesion for lesion in lesions if lesion["case"] == row["case"]]
        assert len(own) == int(row["lesions"])
        assert sum(float(lesion["volume_ml"]) for lesion in own) == pytest.approx(float(row["volume_ml"]), rel=1e-4)
        assert all(0.5 <= float(lesion["mean_probability"]) <= 1 for lesion in own)
        assert imread(masks / "overlays" / f"{row['case']}.png").ndim == 3
    assert lesions
    assert {lesion["side"] for lesion in lesions} <= {"left", "right", "midline"}
    assert not list(masks.glob("*.npz"))


def test_predict_shows_every_mask_on_a_page(predicted_template):
    masks = predicted_template / "masks"
    page = (masks / "report.html").read_text()

    assert "3 of 3 cases for review." in page
    assert "<h1>Masks by Tiny/3d</h1>" in page
    assert page.count("data:image/jpeg") == 3 * 3 * 2  # cases, planes, channels
    assert str(predicted_template) not in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_page_keeps_the_cases_of_other_parts_and_names_failed_ones(base):
    shutil.rmtree(base / "masks")
    (base / "scans" / "case2_0001.nii.gz").write_bytes(b"")
    predict_into(base, "--part", "2/2")
    assert predict_into(base, "--part", "1/2") == 2
    page = (base / "masks" / "report.html").read_text()

    assert "2 of 2 cases for review; 1 case could not be predicted." in page
    assert ".../scans/case2_0001.nii.gz is empty" in page
    assert str(base) not in page


def test_a_page_of_another_program_is_not_replaced(base, capsys):
    (base / "masks" / "report.html").write_text("<p>mine</p>")

    assert predict_into(base) == 2
    assert "report.html was not written by autoseg" in capsys.readouterr().err
    assert (base / "masks" / "report.html").read_text() == "<p>mine</p>"


def test_a_scan_without_orientation_has_no_sides(base):
    for path in (base / "scans").glob("case0_*"):
        content = bytearray(gzip.decompress(path.read_bytes()))
        content[252:256] = bytes(4)  # qform_code and sform_code
        path.write_bytes(gzip.compress(bytes(content)))
    assert predict_into(base) == 0
    lesions = read_table(base / "masks" / "lesions.csv")
    record = json.loads((base / "masks" / "predictions" / "case0.nii.gz.lesions.json").read_text())

    assert {lesion["side"] for lesion in lesions if lesion["case"] == "case0"} <= {""}
    assert [plane["sides"] for plane in record["planes"]] == [["", ""]] * 3
    assert "The scan states no orientation" in (base / "masks" / "report.html").read_text()


def test_labels_and_regions_are_named_with_the_values_of_the_mask(store):
    plan = read_plan(store, "Tiny")
    labels = {"background": 0, "oedema": 1, "core": 2}
    classes = plan.model_copy(update={"labels": labels})
    regions = classes.model_copy(update={"regions": {"whole": (1, 2), "core": (2,)}})

    assert list_targets(classes) == {"oedema": (1, (1,)), "core": (2, (2,))}
    assert list_targets(regions) == {"whole": (0, (1, 2)), "core": (1, (2,))}


def test_a_mask_without_lesions_or_picture_is_predicted_again_and_others_stay(base):
    masks = base / "masks"
    before = {path.name: path.stat().st_mtime_ns for path in masks.glob("*.nii.gz")}
    table = (masks / "lesions.csv").read_text()
    (masks / "predictions" / "case1.nii.gz.lesions.json").unlink()
    (masks / "overlays" / "case2.png").unlink()
    code = predict_into(base)
    again = {path.name for path in masks.glob("*.nii.gz") if path.stat().st_mtime_ns != before[path.name]}

    assert code == 0
    assert again == {"case1.nii.gz", "case2.nii.gz"}
    assert (masks / "lesions.csv").read_text() == table


def test_parts_end_with_complete_tables(base):
    whole = (base / "masks" / "lesions_per_case.csv").read_text()
    shutil.rmtree(base / "masks")
    predict_into(base, "--part", "1/2")
    half = read_table(base / "masks" / "lesions_per_case.csv")
    predict_into(base, "--part", "2/2")

    assert [row["case"] for row in half] == ["case0", "case2"]
    assert (base / "masks" / "lesions_per_case.csv").read_text() == whole


def test_a_case_that_fails_is_in_no_table(base, capsys):
    (base / "scans" / "case1_0001.nii.gz").write_bytes(b"")

    assert predict_into(base) == 2
    assert "case1_0001.nii.gz is empty" in capsys.readouterr().err
    assert [row["case"] for row in read_table(base / "masks" / "lesions_per_case.csv")] == ["case0", "case2"]


def test_lesions_of_another_model_are_left_out(base):
    masks = base / "masks"
    record = masks / "predictions" / "case1.nii.gz.lesions.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"model": "another"}))
    lesions = read_case_records(CaseLesions, masks, [masks / "case0.nii.gz"], ())

    assert [case.case for case in lesions] == ["case0", "case2"]
