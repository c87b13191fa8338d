"""Statistics over cases, and the texts made from them."""

import csv
import io
from pathlib import Path

import pytest

from autoseg.core.errors import DataError
from autoseg.core.records import CaseScores, Scores, parse_record, render_record
from autoseg.evaluation import render_csv, render_table, summarize


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

    assert parse_record(Scores, render_record(scores), path=Path("scores.json"), remedy="score again") == scores


def test_no_case_is_an_error():
    with pytest.raises(DataError, match="there is no case to summarise"):
        summarize([], ["dice"])


def test_a_label_called_mean_is_refused():
    with pytest.raises(DataError, match="a label is called 'mean'"):
        summarize([case("a", core=0.2, mean=0.4)], ["dice"])


def test_table_shows_mean_median_counts_and_conventions():
    table = render_table(summarize([case("a", core=0.25), case("b", core=0.5), case("c", core=None)], ["dice"]))
    lines = table.splitlines()

    assert lines[0].split() == ["label", "metric", "mean", "median", "n", "undefined"]
    assert lines[2].split() == ["core", "dice", "0.375", "0.375", "2", "1"]
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

    assert lines[2].split() == ["core", "dice", "-", "-", "0", "1"]
    assert lines[3].split() == ["hd95", "2.50", "mm", "2.50", "mm", "1", "0"]


def test_csv_has_one_row_per_case_and_label_and_leaves_undefined_empty():
    rows = list(csv.reader(io.StringIO(render_csv(summarize([case("a,1", core=0.2, oedema=None)], ["dice"])))))

    assert rows == [
        ["case", "label", "reference_volume_ml", "prediction_volume_ml", "dice"],
        ["a,1", "core", "1.5", "1.5", "0.2"],
        ["a,1", "oedema", "0.0", "0.0", ""],
    ]
