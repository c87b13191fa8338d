"""Folders of scores against each other, worked by hand."""

import numpy as np
import pytest
from scipy.stats import wilcoxon

from autoseg.core.errors import DataError, UsageError
from autoseg.core.records import CaseScores, Dataset, ScoresComparison
from autoseg.evaluation import (
    Convention,
    align_scores,
    compare_pairs,
    rank_folders,
    render_comparison,
    render_comparison_csv,
    summarize,
)
from autoseg.evaluation.cases import score_case


def scored(values, *, metrics=("dice",), label="lesion", missing=(), **options):
    """Scores of cases a, b, c ...: one value each, or one per metric; None is undefined."""
    cases = []
    for name, value in zip("abcdefghij", values, strict=False):
        found = value if isinstance(value, tuple) else (value,)
        cases.append(
            CaseScores(
                case=name,
                scores={label: dict(zip(metrics, found, strict=True))},
                reference_volume_ml={label: 1.0},
                prediction_volume_ml={label: 1.0},
                missing=name in missing,
            )
        )
    return summarize(cases, metrics, **options)


def test_references_of_equal_volume_are_known_by_their_voxels():
    dataset = Dataset(name="x", channels=("T1",), labels={"background": 0, "lesion": 1}, cases=(), kind="nnunet")
    reference = np.zeros((4, 5, 6), np.uint8)
    reference[1:3, 1:3, 1:3] = 1

    def score(other):
        scores = score_case(
            "a", reference, other, spacing=(1, 1, 1), dataset=dataset, convention=Convention(metrics=("dice",))
        )
        return summarize([scores], ["dice"])

    align_scores({"x": score(reference), "y": score(reference.astype(np.int32))})
    with pytest.raises(DataError, match="that of case a has the same volumes in other places"):
        align_scores({"x": score(reference), "y": score(reference[:, :, ::-1])})


def test_scores_against_two_references_are_not_compared():
    first, second = scored([0.5, 0.1]), scored([0.7, 0.3])
    cases = [case.model_copy(update={"reference_volume_ml": {"lesion": 1.5}}) for case in second.cases[1:]]
    second = second.model_copy(update={"cases": (second.cases[0], *cases)})
    with pytest.raises(DataError, match=r"x and y were .* different references: lesion of case b has 1 and 1\.5 ml"):
        align_scores({"x": first, "y": second})


def test_difference_is_second_minus_first_case_by_case():
    """+0.2, +0.2, 0, -0.1 and one undefined."""
    first = scored([0.5, 0.1, 0.7, 0.9, 0.4])
    second = scored([0.7, 0.3, 0.7, 0.8, None])
    (pair,) = compare_pairs(align_scores({"x": first, "y": second}))

    assert (pair.first, pair.second, pair.label, pair.metric) == ("x", "y", "lesion", "dice")
    assert (pair.count, pair.undefined) == (4, 1)
    assert pair.difference == pytest.approx(0.3 / 4)
    assert (pair.mean_first, pair.mean_second) == (pytest.approx(0.55), pytest.approx(0.625))
    assert (pair.wins, pair.ties, pair.losses) == (2, 1, 1)
    assert pair.interval[0] < pair.difference < pair.interval[1]


def test_intervals_and_tests_of_comparisons_are_by_patient():
    """Gains 0.1 and 0.3 of patient p, 0.6 of q: patients' means 0.2 and 0.6, of which each drawn twice is 1/4."""

    def grouped(values):
        scores = scored(values)
        cases = [
            case.model_copy(update={"group": group}) for case, group in zip(scores.cases, ("p", "p", "q"), strict=True)
        ]
        return scores.model_copy(update={"cases": tuple(cases)})

    (pair,) = compare_pairs(align_scores({"x": scored([0.1, 0.1, 0.1]), "y": grouped([0.2, 0.4, 0.7])}))

    assert pair.interval == (pytest.approx(0.2), pytest.approx(0.6))
    assert pair.p_value == pytest.approx(2 / 2**2)


def test_a_smaller_distance_wins():
    (pair,) = compare_pairs(
        align_scores({"x": scored([3.0], metrics=("hd95",)), "y": scored([1.0], metrics=("hd95",))})
    )

    assert (pair.difference, pair.wins, pair.losses) == (-2.0, 1, 0)


def test_p_is_the_signed_rank_test_and_holm_corrects_for_every_metric():
    """All 8 cases better: p = 2 / 2**8 for dice; one metric without any difference has p 1."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.2, 0.6, 8)
    gain = np.arange(1, 9) / 100
    first = scored([(value, 1.0) for value in base], metrics=("dice", "lesion_f1"))
    second = scored(
        [(value + more, 1.0) for value, more in zip(base, gain, strict=True)], metrics=("dice", "lesion_f1")
    )
    dice, f1 = compare_pairs(align_scores({"x": first, "y": second}))

    assert dice.p_value == pytest.approx(2 / 2**8) == wilcoxon(gain).pvalue
    assert dice.p_holm == pytest.approx(2 * dice.p_value)
    assert (f1.p_value, f1.p_holm, f1.ties) == (1.0, 1.0, 8)


def test_rounding_is_no_difference():
    (pair,) = compare_pairs(align_scores({"x": scored([0.1 + 0.2]), "y": scored([0.3])}))

    assert (pair.ties, pair.difference) == (1, 0.0)


def test_nothing_defined_by_both_gives_none():
    (pair,) = compare_pairs(align_scores({"x": scored([None]), "y": scored([0.3])}))

    assert (pair.count, pair.difference, pair.p_value, pair.p_holm, pair.interval) == (0, None, None, None, None)


def test_three_folders_are_three_pairs():
    folders = {name: scored([0.1, 0.2]) for name in "xyz"}

    assert [(p.first, p.second) for p in compare_pairs(align_scores(folders))] == [("x", "y"), ("x", "z"), ("y", "z")]


def test_other_cases_are_refused_with_their_names_unless_common_ones_are_wanted():
    folders = {"x": scored([0.1, 0.2, 0.3]), "y": scored([0.1, 0.2])}
    with pytest.raises(
        DataError, match=r"y does not hold 1 of the cases .*\(c\).*compare the 2 cases .*--common-cases"
    ):
        align_scores(folders)

    found = align_scores(folders, common_cases=True)
    assert (found.cases, found.left_out) == (("a", "b"), ("c",))


def test_other_conventions_are_refused():
    folders = {"x": scored([0.1]), "y": scored([0.1], empty_score="one")}
    with pytest.raises(DataError, match=r"x and y do not mean the same by dice .*score both again"):
        align_scores(folders)


def test_other_metrics_are_refused_and_the_shared_ones_named():
    folders = {"x": scored([(0.1, 2.0)], metrics=("dice", "hd95")), "y": scored([0.1])}
    with pytest.raises(UsageError, match=r"y holds no hd95; .* compare those that both hold: --metrics dice"):
        align_scores(folders)

    assert list(align_scores(folders, metrics=["dice"]).conventions) == ["dice"]


def test_other_labels_are_refused():
    with pytest.raises(DataError, match="x scores the labels lesion and y core"):
        align_scores({"x": scored([0.1]), "y": scored([0.1], label="core")})


def test_other_rules_are_refused():
    ruled = scored([0.1]).model_copy(update={"rules": ("label 2 counts nowhere",)})
    with pytest.raises(DataError, match="x and y were scored by other rules"):
        align_scores({"x": scored([0.1]), "y": ruled})


def test_rank_in_each_case_and_metric_then_the_mean():
    """Dice: a x1 y2 z3, b y1 x2 z3; HD95: a x and y share 1.5, z 3; b x1, y2, z undefined and last.

    x: (1 + 1.5) / 2 and (2 + 1) / 2, mean 1.375. y: 1.75 and 1.5, mean 1.625. z: 3.
    """
    metrics = ("dice", "hd95")
    folders = {
        "z": scored([(0.1, 9.0), (0.1, None)], metrics=metrics),
        "x": scored([(0.9, 1.0), (0.5, 1.0)], metrics=metrics),
        "y": scored([(0.8, 1.0), (0.6, 2.0)], metrics=metrics),
    }
    found = rank_folders(align_scores(folders))

    assert [(rank.name, rank.place) for rank in found] == [("x", 1), ("y", 2), ("z", 3)]
    assert [rank.mean_rank for rank in found] == pytest.approx([1.375, 1.625, 3.0])
    assert found[0].ranks == pytest.approx({"dice": 1.5, "hd95": 1.25})


def test_equal_folders_share_a_place():
    found = rank_folders(align_scores({name: scored([0.1, 0.2]) for name in "xyz"}))

    assert {(rank.place, rank.mean_rank) for rank in found} == {(1, 2.0)}


def test_a_missing_prediction_is_last_whatever_its_score():
    """An empty mask beside an empty reference would have the best volume difference."""
    metrics = ("volume_difference_ml",)
    folders = {
        "x": scored([0.5], metrics=metrics),
        "y": scored([0.0], metrics=metrics, missing="a"),
        "z": scored([0.9], metrics=metrics),
    }

    assert [rank.name for rank in rank_folders(align_scores(folders))] == ["x", "z", "y"]


def test_what_no_folder_defines_is_not_ranked():
    folders = {"x": scored([None, 0.5]), "y": scored([None, 0.4]), "z": scored([None, 0.3])}

    assert [rank.mean_rank for rank in rank_folders(align_scores(folders))] == [1.0, 2.0, 3.0]
    assert rank_folders(align_scores({name: scored([None]) for name in "xyz"})) == ()


def test_text_and_csv_show_pairs_and_ranking():
    comparable = align_scores({"x": scored([0.5, 0.1]), "y": scored([0.7, 0.3]), "z": scored([0.7, None])})
    comparison = ScoresComparison(
        folders={name: name for name in "xyz"},
        conventions=comparable.conventions,
        cases=comparable.cases,
        left_out=("c",),
        pairs=compare_pairs(comparable),
        ranking=rank_folders(comparable),
    )
    lines = render_comparison(comparison).splitlines()
    rows = render_comparison_csv(comparison).splitlines()

    assert lines[0] == "first: x, second: y"
    assert lines[3] == "lesion"
    assert " ".join(lines[4].split()) == "dice 0.300 0.500 0.200 0.200 to 0.200 0.5 1 2/0/0"
    assert any(line.split()[:3] == ["1", "y", "1.25"] for line in lines)
    assert any(line.startswith("1 case is omitted") for line in lines)
    assert len(rows) == 4
    assert rows[1].startswith("x,y,lesion,dice,2,0,")
