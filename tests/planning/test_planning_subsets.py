"""Subsets of a fold: balanced by lesion volume, patient by patient, one within the next."""

import pytest

from autoseg.core.errors import UsageError
from autoseg.core.records import CaseFacts, ChannelFacts, Fingerprint, Fold, Folds, IntensityFacts
from autoseg.fingerprint.lesions import summarize_lesions
from autoseg.planning.subsets import describe_subsets, make_subsets, order_cases

BRAIN = IntensityFacts(count=1, mean=0, std=1, minimum=0, maximum=1, percentile_00_5=0, median=0, percentile_99_5=1)


def case(name, ml, group=None):
    return CaseFacts(
        case=name, group=group, site=None, shape=(10, 10, 10), spacing=(10.0, 10.0, 10.0), cropped_shape=(10, 10, 10),
        channels=(ChannelFacts(foreground=None, brain=BRAIN),), label_voxels={"lesion": ml}, lesions=(),
    )  # fmt: skip


def forty(empty=0):
    """Forty cases of 1, 2, 4, ... ml in eight classes of five, and some without a lesion."""
    full = [case(f"c{number:02d}", 2 ** (number // 5)) for number in range(40)]
    return full + [case(f"e{number:02d}", 0) for number in range(empty)]


def fingerprint(cases):
    return Fingerprint(
        dataset="Tiny", dataset_key="", channels=("T1",), labels={"background": 0, "lesion": 1},
        lesions=summarize_lesions(cases), intensities={}, cases=tuple(cases),
    )  # fmt: skip


def folds(cases):
    names = tuple(case.case for case in cases)
    return Folds(seed=1, folds=(Fold(train=names[4:], validation=names[:4]), Fold(train=names[:-4], validation=())))


@pytest.mark.parametrize("size", [8, 16, 24, 32])
def test_every_beginning_holds_every_volume_alike(size):
    chosen = order_cases(forty(), seed=3)[:size]
    classes = [int(name[1:]) // 5 for name in chosen]
    assert {classes.count(number) for number in range(8)} == {size // 8}


def test_cases_without_a_lesion_have_their_share():
    ordered = order_cases(forty(empty=10), seed=3)  # a fifth of fifty
    assert [sum(name[0] == "e" for name in ordered[:n]) for n in (5, 10, 20, 50)] == [1, 2, 4, 10]


def test_patients_come_before_further_scans_of_theirs():
    cases = [case(f"{patient}{scan}", 5, group=patient) for patient in "abcd" for scan in (1, 2)]
    assert sorted(order_cases(cases, seed=0)) == sorted(case.case for case in cases)
    one_bin = order_cases([case(f"{p}{s}", 0, group=p) for p in "abcd" for s in (1, 2, 3)], seed=0)
    assert {name[0] for name in one_bin[:4]} == set("abcd")
    assert {name[0] for name in one_bin[4:8]} == set("abcd")


def test_the_same_seed_gives_the_same_and_another_seed_other_cases():
    assert order_cases(forty(), seed=3) == order_cases(forty()[::-1], seed=3)
    assert order_cases(forty(), seed=3)[:8] != order_cases(forty(), seed=4)[:8]


def test_every_fold_and_all_cases_have_nested_subsets_of_their_training_cases():
    cases = forty()
    made = make_subsets(fingerprint(cases), folds(cases), [16, 8, 8], seed=1)
    assert made.sizes == (8, 16)
    assert set(made.folds) == {"0", "1", "all"}
    assert {len(names) for names in made.folds.values()} == {16}
    assert not set(made.folds["0"]) & {"c00", "c01", "c02", "c03"}
    assert describe_subsets(made, fingerprint(cases)).splitlines()[6].split() == ["all", "8", "0", "1", "12", "128"]


def test_more_cases_than_a_fold_has_are_refused():
    cases = forty()
    with pytest.raises(UsageError, match="40 cases were requested, but fold 0 of Tiny trains on 36 only"):
        make_subsets(fingerprint(cases), folds(cases), [40], seed=1)


@pytest.mark.parametrize("cases", [[case("a", 3)], [case("a", 0)], [case("a", 3), case("b", 0)]])
def test_small_pools_end(cases):
    assert sorted(order_cases(cases, seed=0)) == [case.case for case in cases]
