"""Which prediction belongs to which reference."""

import logging
from pathlib import Path

import pytest

from autoseg.core.errors import DataError
from autoseg.evaluation import Pair, pair_masks


def files(folder, *cases):
    return {case: Path(folder, f"{case}.nii.gz") for case in cases}


def test_pairs_are_sorted_by_case():
    found = pair_masks(files("p", "b", "a"), files("r", "a", "b"))

    assert found.pairs[0] == Pair(case="a", prediction=Path("p/a.nii.gz"), reference=Path("r/a.nii.gz"))
    assert [pair.case for pair in found.pairs] == ["a", "b"]
    assert (found.missing, found.extra) == ((), ())


def test_missing_predictions_are_an_error_that_names_them():
    with pytest.raises(DataError, match=r"2 of 3 references have no prediction \(b, c\); predict these cases too"):
        pair_masks(files("p", "a"), files("r", "c", "b", "a"))


def test_missing_predictions_may_be_allowed(caplog):
    with caplog.at_level(logging.WARNING):
        found = pair_masks(files("p", "a"), files("r", "a", "b"), allow_missing=True)

    assert ([pair.case for pair in found.pairs], found.missing) == (["a"], ("b",))
    assert "1 of 2 references have no prediction and get the worst possible score: b" in caplog.text


def test_extra_predictions_are_ignored_and_logged(caplog):
    with caplog.at_level(logging.WARNING):
        found = pair_masks(files("p", "a", "z"), files("r", "a"))

    assert ([pair.case for pair in found.pairs], found.extra) == (["a"], ("z",))
    assert "ignored 1 of 2 predictions, without a reference: z" in caplog.text


def test_nothing_in_common_is_an_error_even_when_missing_is_allowed():
    with pytest.raises(DataError, match=r"none of the 1 predictions \(x\) has the name of one of the 7 references"):
        pair_masks(files("p", "x"), files("r", *"abcdefg"), allow_missing=True)


def test_long_lists_are_shortened():
    with pytest.raises(DataError, match=r"\(b, c, d, e, f and 1 more\)"):
        pair_masks(files("p", "a"), files("r", *"abcdefg"))
