"""Statistics over cases, and the texts made from them."""

import csv
import io
from pathlib import Path

import pytest

from autoseg.core.errors import DataError
from autoseg.core.records import CaseScores, Scores, parse_record, render_record
from autoseg.evaluation import DEFAULT_METRICS, render_csv, render_summary_csv, render_table, summarize


def case(name, **dice):
    """Scores of one case: label=dice; a label without a score has an empty reference."""
    volumes = {label: 0.0 if value is None else 1.5 for label, value in dice.items()}
    return CaseScores(
        case=name,
        scores={label: {"dice": value} for label, value in dice.items()},
        reference_volume_ml=volumes,
        prediction_volume_ml=volumes,
    )


def test_statistics_of_one_label():
    """0.2, 0.4, 0.9 and one undefined: mean 0.5, squared deviations 0.09 + 0.01 + 0.16 over n - 1 = 2."""
    scores = summarize([case("a", core=0.2), case("b", core=0.9), case("c", core=None), case("d", core=0.4)], ["dice"])
    found = scores.summary["core"]["dice"]

    assert (found.count, found.undefined) == (3, 1)
    assert found.mean == pytest.approx(0.5)
    assert found.std == pytest.approx(0.13**0.5)
    assert (found.lower_quartile, found.median, found.upper_quartile) == pytest.approx((0.3, 0.4, 0.65))
    assert (found.minimum, found.maximum) == (0.2, 0.9)
    assert scores.empty_references == {"core": 1}


def test_lesions_that_are_detected_but_barely_overlap_are_marked():
    def scored(name, dice, f1):
        values = {"dice": dice, "lesion_f1": f1}
        return CaseScores(
            case=name, scores={"core": values}, reference_volume_ml={"core": 1.0}, prediction_volume_ml={"core": 40.0}
        )

    cases = [scored("a", 0.05, 1.0), scored("b", 0.9, 1.0), scored("c", 0.1, 0.2), scored("d", None, 1.0)]
    scores = summarize(cases, ["dice", "lesion_f1"])
    (remark,) = scores.remarks
    assert "core: 1 of 4 cases have a high lesion score beside a dice below 0.3" in remark
    assert "(a: lesion_f1 1.00 beside dice 0.05), because one shared voxel detects a lesion" in remark
    assert remark in render_table(scores)
    assert summarize(cases[1:], ["dice", "lesion_f1"]).remarks == ()
    assert summarize(cases, ["lesion_f1"]).remarks == ()


def test_mean_is_over_the_labels_a_case_defines():
    scores = summarize([case("a", core=0.2, oedema=0.6), case("b", core=None, oedema=0.8)], ["dice"])

    assert list(scores.summary) == ["core", "oedema", "mean"]
    assert scores.summary["mean"]["dice"].mean == pytest.approx((0.4 + 0.8) / 2)
    assert scores.summary["mean"]["dice"].count == 2


def test_one_label_has_no_mean_over_labels():
    assert list(summarize([case("a", core=0.2)], ["dice"]).summary) == ["core"]


def test_nothing_defined_gives_none_and_never_zero():
    found = summarize([case("a", core=None), case("b", core=None)], ["dice"]).summary["core"]["dice"]

    assert (found.count, found.undefined) == (0, 2)
    assert {found.mean, found.std, found.median, found.lower_quartile, found.minimum, found.maximum} == {None}


def test_one_case_has_no_standard_deviation():
    found = summarize([case("a", core=0.2)], ["dice"]).summary["core"]["dice"]

    assert (found.mean, found.median, found.std) == (0.2, 0.2, None)


def test_conventions_say_what_empty_masks_score():
    assert "both masks empty: 1;" in summarize([case("a", core=1.0)], ["dice"], empty_score="one").conventions["dice"]


def test_scores_survive_the_disk():
    scores = summarize([case("a", core=0.2, oedema=None)], ["dice"])

    assert parse_record(Scores, render_record(scores), path=Path("scores.json"), advice="score again") == scores


def test_no_case_is_an_error():
    with pytest.raises(DataError, match="there is no case to summarise"):
        summarize([], ["dice"])


def test_a_label_called_mean_is_refused():
    with pytest.raises(DataError, match="a label is called 'mean'"):
        summarize([case("a", core=0.2, mean=0.4)], ["dice"])


def test_table_shows_mean_median_counts_and_conventions():
    table = render_table(summarize([case("a", core=0.25), case("b", core=0.5), case("c", core=None)], ["dice"]))
    lines = table.splitlines()

    assert [" ".join(line.split()) for line in (lines[0], *lines[2:4])] == [
        "mean 95 % interval median quartiles cases",
        "core",
        "dice 0.375 0.250 to 0.500 0.375 0.312 to 0.438 2/3",
    ]
    assert "core: the reference is empty in 1 of 3 cases" in lines
    assert any(line.startswith("dice: ratio, higher is better, both masks empty: undefined") for line in lines)


def test_table_shows_undefined_as_a_dash_and_lengths_with_their_unit():
    lengths = CaseScores(
        case="a",
        scores={"core": {"dice": None, "hd95": 2.5}},
        reference_volume_ml={"core": 1.0},
        prediction_volume_ml={"core": 1.0},
    )
    lines = render_table(summarize([lengths], ["dice", "hd95"])).splitlines()

    assert lines[3].split() == ["dice", "-", "-", "-", "-", "0/1"]
    assert lines[4].split() == ["hd95", "2.50", "mm", "-", "2.50", "2.50", "to", "2.50", "1/1"]


def test_table_of_the_default_metrics_fits_80_columns():
    cases = [
        CaseScores(
            case=name,
            scores={"core": {metric: 12.34 if metric in ("hd95", "volume_difference_ml") else 0.5 + number / 9
                             for metric in DEFAULT_METRICS}},
            reference_volume_ml={"core": 1.5},
            prediction_volume_ml={"core": 1.5},
        )
        for number, name in enumerate("abc")
    ]  # fmt: skip
    table = render_table(summarize(cases, DEFAULT_METRICS)).split("\n\n")[0]

    assert max(map(len, table.splitlines())) <= 80


def test_csv_has_one_row_per_case_and_label_and_leaves_undefined_empty():
    rows = list(csv.reader(io.StringIO(render_csv(summarize([case("a,1", core=0.2, oedema=None)], ["dice"])))))

    assert rows == [
        ["case", "label", "reference_volume_ml", "prediction_volume_ml", "missing", "dice"],
        ["a,1", "core", "1.5", "1.5", "0", "0.2"],
        ["a,1", "oedema", "0.0", "0.0", "0", ""],
    ]


def test_summary_csv_has_a_row_per_label_volume_and_metric():
    scores = summarize([case("a", core=0.25), case("b", core=0.5), case("c", core=None)], ["dice"])
    rows = list(csv.DictReader(io.StringIO(render_summary_csv(scores))))

    assert [row["reference_volume"] for row in rows] == ["all", "empty", "1 to 10 ml"]
    assert (rows[0]["mean"], rows[0]["count"], rows[0]["undefined"]) == ("0.375", "2", "1")
    assert (rows[0]["interval_lower"], rows[0]["interval_upper"]) == ("0.25", "0.5")
    assert (rows[1]["mean"], rows[1]["interval_lower"]) == ("", "")


def test_table_shows_means_by_volume_where_references_differ():
    lines = render_table(summarize([case("a", core=0.25), case("c", core=None)], ["dice"])).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("reference volume"))

    assert lines[start].split("  ")[-2:] == ["empty", "1 to 10 ml"]
    assert lines[start + 2].split() == ["core", "(cases)", "1", "1"]
    assert lines[start + 3].split() == ["dice", "-", "0.250"]


def test_cases_without_a_prediction_are_named_with_what_they_got():
    absent = case("b", core=0.0).model_copy(update={"missing": True})
    scores = summarize([case("a", core=0.25), absent], ["dice", "hd95"], penalty_mm=374.0)

    assert scores.missing == ("b",)
    assert scores.worst == {"dice": "0", "hd95": "374 mm"}
    assert "1 of 2 cases without a prediction got the worst possible score: dice 0; hd95 374 mm" in render_table(scores)


def test_scores_of_older_files_are_still_read():
    older = (
        Path("scores.json"),
        """{"schema": 1, "conventions": {}, "empty_references": {}, "cases": [{"case": "a",
        "scores": {}, "reference_volume_ml": {}, "prediction_volume_ml": {}}], "summary": {"core": {"dice": {"count": 0,
        "undefined": 1, "mean": null, "std": null, "median": null, "lower_quartile": null, "upper_quartile": null,
        "minimum": null, "maximum": null}}}}""",
    )

    found = parse_record(Scores, older[1], path=older[0], advice="score again")
    assert (found.preset, found.missing, found.summary["core"]["dice"].interval) == (None, (), None)


def test_definitions_stand_below_the_table_where_they_are_asked_for():
    scores = summarize([case("a", core=0.25), case("b", core=0.5)], DEFAULT_METRICS)
    assert "dice: ratio, higher is better" in render_table(scores)
    short = render_table(scores, explain=False, width=80)
    assert "higher is better" not in short
    assert "--explain-scores" in short
    assert max(map(len, short.splitlines())) <= 80
