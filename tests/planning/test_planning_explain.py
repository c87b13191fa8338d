"""The page for a clinician: what was found, the folds, what is trained and why, the words."""

import itertools

import pytest

from autoseg.core.records import Fold, FoldRule, Folds, MemoryFacts
from autoseg.planning import explain_plan, make_folds, make_plan

SHAPE = (140, 171, 136)


@pytest.fixture
def made(gather, case):
    """Six cases of four patients at two sites, one of them empty."""
    cases = [
        case("a1", SHAPE, group="a", site="north", lesions=(2.0, 0.05)),
        case("a2", SHAPE, group="a", site="north", lesions=(4.0,)),
        case("b1", (120, 160, 130), group="b", site="north", lesions=(150.0,)),
        case("b2", SHAPE, group="b", site="north", lesions=(1.0,)),
        case("c", SHAPE, (1.0, 1.0, 2.0), site="south", lesions=(0.5,)),
        case("d", SHAPE, site="south", lesions=()),
    ]
    return gather(cases)


def flatten(page):
    return " ".join(page.split())


def find_headings(page):
    lines = page.splitlines()
    return [line for line, below in itertools.pairwise(lines) if below and set(below) == {"-"}]


def test_the_parts_come_in_the_order_of_reading(made):
    plan = make_plan(made, preset="pocket", memory_gb=4)
    page = explain_plan(plan, made, make_folds(made))
    configurations = [f"Configuration {name}" for name in plan.configurations]
    headings = ["What was found", "Folds", "What will be trained", *configurations, "Words"]
    assert find_headings(page) == headings
    assert max(map(len, page.splitlines())) <= 100
    assert find_headings(explain_plan(plan)) == headings[2:]
    assert explain_plan(plan, made, make_folds(made)) == page


def test_what_was_found_is_told_with_its_numbers(made):
    page = flatten(explain_plan(make_plan(made, preset="pocket", memory_gb=4), made, make_folds(made)))
    for words in (
        "Cases: 6, all with a label, of 4 patients",
        "Sites: north (4 cases), south (2 cases)",
        "median 140 x 171 x 136 voxels (head-foot, front-back, left-right); per axis from 120 x 160 x 130 to "
        "140 x 171 x 136",
        "median 1 x 1 x 1 mm (head-foot, front-back, left-right); per axis from 1 x 1 x 1 to 1 x 1 x 2",
        "6 in 5 cases, median 1 per case, at most 2; 1 case without lesions",
        "median 1.5 ml; 50% from 0.625 ml to 3.5 ml, 90% from 0.163 ml to 114 ml, all from 0.05 ml to 150 ml; "
        "17% below 0.1 ml",
        "median 2.05 ml in cases with lesions; 158 ml in total",
        "0% of the lesions in the patient's left half of the scan, 0% in the right half",
        "50% of the way from foot to head (SD 0%)",
        "FLAIR: median 50 (99% from 5 to 95) inside the labels",
    ):
        assert words in page, words


def test_folds_are_told_with_their_load(made):
    folds = Folds(
        seed=1,
        made_by=FoldRule(rule="file", file="mine.json"),
        folds=(
            Fold(train=("b1", "b2", "c"), validation=("a1", "a2", "d")),
            Fold(train=("a1", "b2"), validation=("b1", "c")),
        ),
    )
    page = explain_plan(make_plan(made, preset="pocket", memory_gb=4), made, folds)
    assert "2 folds, as mine.json states them; scans of 1 patient are on both sides of a fold" in flatten(page)
    rows = [line.split() for line in page.splitlines() if len(line) == 90 and line.strip()[:2] in ("0 ", "1 ")]
    assert rows == [["0", "3", "3", "1", "3", "6.05"], ["1", "2", "2", "0", "2", "150.5"]]


def test_whatever_was_left_out_is_told(made):
    plan = make_plan(made, preset="pocket", memory_gb=4)
    reasons = {**plan.reasons, "3d_swin_unetr": "It needs more than 4 GB.", "seed": "A note on the plan."}
    page = flatten(explain_plan(plan.model_copy(update={"reasons": reasons})))
    assert "Left out: 3d_swin_unetr It needs more than 4 GB." in page
    assert "A note on the plan." not in page
    assert page.count("Left out") == 1


def test_memory_is_told_as_far_as_it_is_known(made):
    plan = make_plan(made, preset="pocket", memory_gb=4)
    assert "Memory:" not in explain_plan(plan)
    memory = {"2d": MemoryFacts(predicted_gb=1.25), "3d": MemoryFacts(predicted_gb=3, measured_gb=2.5, device="A GPU")}
    page = explain_plan(plan.model_copy(update={"memory": memory}))
    assert "1.25 GB predicted\n" in page
    assert "3 GB predicted, 2.5 GB measured on A GPU" in page


def test_a_dataset_without_any_lesion_is_told(gather, case, made):
    empty = gather([case(name, SHAPE, lesions=()) for name in "ab"])
    assert "none; 2 cases without lesions" in explain_plan(make_plan(made, preset="pocket", memory_gb=4), empty)


def test_cases_that_name_no_patient_are_said_to_count_as_one_each(fingerprint, made):
    plan = make_plan(made, preset="pocket", memory_gb=4)
    page = flatten(explain_plan(plan, fingerprint(3, SHAPE)))
    assert "3, all with a label, of 3 patients (no patients are named, so each case counts as one)" in page
