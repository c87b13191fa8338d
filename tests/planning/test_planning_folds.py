"""Folds: groups stay together, load and sites are spread or left out, a seed repeats them; nnU-Net's are read."""

import json
from pathlib import Path

import pytest

from autoseg.core.errors import DataError, PlanError, UsageError
from autoseg.core.records import Fold, FoldRule, Folds, parse_record, render_record
from autoseg.planning import describe_rule, find_split_groups, make_folds, read_folds_content

SHAPE = (10, 20, 30)


def held_out(folds):
    return [set(fold.validation) for fold in folds.folds]


def test_every_case_is_held_out_once_and_trained_on_in_the_other_folds(fingerprint):
    made = fingerprint(23, SHAPE)
    folds = make_folds(made)
    every = {case.case for case in made.cases}
    assert len(folds.folds) == 5
    assert sorted(case for fold in folds.folds for case in fold.validation) == sorted(every)
    for fold in folds.folds:
        assert set(fold.train) == every - set(fold.validation)
        assert len(fold.validation) in (4, 5)


def test_scans_of_one_patient_are_never_split(gather, case):
    made = gather([case(f"p{p}_{scan}", SHAPE, group=f"p{p}") for p in range(12) for scan in range(1 + p % 3)])
    for fold in make_folds(made).folds:
        assert not {name.split("_")[0] for name in fold.train} & {name.split("_")[0] for name in fold.validation}


def test_lesion_load_is_spread(gather, case):
    # 25 cases of 1..25 ml: each block of five neighbours gives one case to each fold.
    made = gather([case(f"c{v:02}", SHAPE, lesions=(float(v),)) for v in range(1, 26)])
    for fold in held_out(make_folds(made)):
        assert sorted((int(name[1:]) - 1) // 5 for name in fold) == [0, 1, 2, 3, 4]


def test_empty_cases_are_spread(gather, case):
    made = gather([case(f"c{i:02}", SHAPE, lesions=() if i < 10 else (1.0,)) for i in range(30)])
    assert [sum(int(name[1:]) < 10 for name in fold) for fold in held_out(make_folds(made))] == [2] * 5


def test_sites_are_spread(gather, case):
    sites = ("north",) * 10 + ("south",) * 15
    made = gather([case(f"{site}{i:02}", SHAPE, site=site, lesions=(i + 1.0,)) for i, site in enumerate(sites)])
    assert [sum(name.startswith("north") for name in fold) for fold in held_out(make_folds(made))] == [2] * 5


def test_a_seed_repeats_the_folds_and_another_changes_them(fingerprint):
    made = fingerprint(20, SHAPE)
    assert make_folds(made, seed=3) == make_folds(made, seed=3)
    assert held_out(make_folds(made, seed=3)) != held_out(make_folds(made, seed=4))


def test_fewer_groups_make_fewer_folds(fingerprint):
    assert [len(fold.validation) for fold in make_folds(fingerprint(3, SHAPE)).folds] == [1, 1, 1]


def test_cases_without_a_reference_are_left_out(gather, case):
    cases = [case(f"c{i}", SHAPE) for i in range(4)]
    cases[0] = cases[0].model_copy(update={"label_voxels": {}, "lesions": ()})
    assert all("c0" not in fold.train + fold.validation for fold in make_folds(gather(cases)).folds)


def test_one_patient_cannot_be_both_learnt_from_and_held_out(fingerprint):
    with pytest.raises(DataError, match=r"Made has 1 groups \(patients\) with a label"):
        make_folds(fingerprint(3, SHAPE, group="p1"))


def test_one_fold_is_no_cross_validation(fingerprint):
    with pytest.raises(UsageError, match="cross-validation needs at least 2 folds, not 1"):
        make_folds(fingerprint(9, SHAPE), count=1)


# One site at a time


def test_each_site_is_held_out_whole(gather, case):
    sites = ("north",) * 4 + ("south",) * 2 + ("east",) * 3
    made = gather([case(f"{site}{i}", SHAPE, site=site) for i, site in enumerate(sites)])
    folds = make_folds(made, leave_one_site_out=True)
    assert [{name[:-1] for name in out} for out in held_out(folds)] == [{"east"}, {"north"}, {"south"}]
    assert all(len(fold.train) + len(fold.validation) == 9 for fold in folds.folds)


def test_a_patient_of_two_sites_is_held_out_once(gather, case):
    cases = [case(f"c{i}", SHAPE, site="north" if i < 3 else "south") for i in range(6)]
    both = [case(f"p_{site}", SHAPE, site=site, group="p") for site in ("south", "north")]
    north, south = held_out(make_folds(gather([*cases, *both]), leave_one_site_out=True))
    assert {"p_south", "p_north"} <= north
    assert not {"p_south", "p_north"} & south


def test_a_case_without_a_site_is_named(gather, case):
    made = gather([case("a", SHAPE, site="north"), case("b", SHAPE, site="south"), case("lost", SHAPE)])
    with pytest.raises(DataError, match=r"dataset Made has 1 cases without one \(lost\)"):
        make_folds(made, leave_one_site_out=True)


def test_one_site_cannot_be_left_out(gather, case):
    made = gather([case(name, SHAPE, site="north") for name in "abc"])
    with pytest.raises(DataError, match="at least 2 sites, but dataset Made has only north"):
        make_folds(made, leave_one_site_out=True)


# How they were made


def test_folds_of_an_older_version_were_spread():
    text = '{"schema": 1, "seed": 3, "folds": [{"train": ["a"], "validation": ["b"]}]}'
    assert parse_record(Folds, text, path=Path("folds.json"), advice="").made_by == FoldRule(rule="spread")


@pytest.mark.parametrize(
    "rule", ['{"rule": "file"}', '{"file": "x"}', '{"rule": "leave_one_site_out", "count": 3}', '{"count": 1}']
)
def test_a_rule_that_contradicts_itself_is_named(rule):
    text = f'{{"schema": 1, "seed": 3, "made_by": {rule}, "folds": [{{"train": ["a"], "validation": []}}]}}'
    with pytest.raises(PlanError, match="'made_by': count"):
        parse_record(Folds, text, path=Path("folds.json"), advice="")


def test_how_folds_were_made_is_recorded_and_described(fingerprint, gather, case):
    made = make_folds(fingerprint(9, SHAPE), count=3)
    assert (made.made_by, describe_rule(made)) == (
        FoldRule(count=3),
        "with sites and lesion volumes distributed evenly",
    )
    sites = gather([case(f"c{i}", SHAPE, site="north" if i < 3 else "south") for i in range(6)])
    assert describe_rule(make_folds(sites, leave_one_site_out=True)) == "one site held out at a time"


def test_a_patient_on_both_sides_of_a_fold_is_found(gather, case):
    made = gather([case(f"p{p}_{scan}", SHAPE, group=f"p{p}") for p in range(3) for scan in range(2)])
    assert find_split_groups(make_folds(made), made) == {}
    folds = (
        Fold(train=("p1_0", "p1_1", "p2_0"), validation=("p0_0", "p0_1")),
        Fold(train=("p0_0", "p1_0"), validation=("p1_1", "p2_0")),
    )
    assert find_split_groups(Folds(seed=1, folds=folds), made) == {"p1": 1}


# nnU-Net's splits_final.json

IDS = ("a", "b", "c", "d")


def read(content):
    return read_folds_content(content, cases=IDS, source="splits_final.json")


def test_nnunet_s_splits_become_folds():
    folds = read([{"train": ["c", "d", "a"], "val": ["b"]}, {"train": ["b"], "val": ["c", "a"]}])
    assert [(fold.train, fold.validation) for fold in folds.folds] == [(("a", "c", "d"), ("b",)), (("b",), ("a", "c"))]
    assert folds.seed == 12345
    assert folds.made_by == FoldRule(rule="file", file="splits_final.json")
    assert parse_record(Folds, render_record(folds), path=Path("folds.json"), advice="") == folds


def test_our_own_folds_are_imported_with_their_seed(fingerprint):
    ours = make_folds(fingerprint(6, SHAPE), count=3, seed=8)
    cases = [f"c{i:03}" for i in range(6)]
    read_back = read_folds_content(json.loads(render_record(ours)), cases=cases, source="old/folds.json")
    assert read_back.folds == ours.folds
    assert read_back.seed == 8
    assert read_back.made_by == FoldRule(rule="file", file="folds.json")


def test_our_own_folds_name_a_wrong_key():
    with pytest.raises(PlanError, match=r"unknown key 'fold'.*correct the file"):
        read({"schema": 1, "seed": 1, "folds": [{"train": ["a"], "validation": ["b"]}], "fold": 3})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"train": ["a", "x2", "x1"], "val": ["b"]}], r"names 2 cases that .* label: x1, x2; .* a, b, c and 1 more"),
        ([{"train": ["a", "b"], "val": ["b"]}], "fold 0 of splits_final.json both trains on and validates b"),
        ([{"train": [], "val": ["b"]}], "fold 0 of splits_final.json has no cases to train on"),
        ([{"train": ["a"], "val": ["b"]}, {"train": ["c"], "val": ["b"]}], r"holds 1 cases out in more .* \(b\)"),
        ({"train": ["a"], "val": ["b"]}, "must hold a list of"),
        ([{"train": ["a"]}], "must hold a list of"),
        ([{"train": ["a"], "val": "b"}], "must hold a list of"),
        ([], "must hold a list of"),
    ],
)
def test_wrong_splits_say_what_is_wrong(content, message):
    with pytest.raises(PlanError, match=message):
        read(content)
