"""Measures of one case, worked by hand on a 4 x 5 x 6 or 10 x 20 x 30 scan."""

import math
from pathlib import Path

import numpy as np
import pytest

from autoseg.core.records import (
    Case,
    ChannelFile,
    Dataset,
    Fingerprint,
    Grid,
    Image,
    Label,
    parse_record,
    render_record,
)
from autoseg.fingerprint import (
    measure_case,
    measure_intensities,
    median_crop_share,
    median_cropped_shape,
    median_spacing,
    pool_intensities,
    summarize,
)

LABELS = {"background": 0, "core": 1, "edema": 2}
CASE = Case(id="a", channels=(ChannelFile(path=Path("a.nii")),), group="p1", site="north")
DATASET = Dataset(name="Two", kind="nnunet", channels=("T1",), labels=LABELS, cases=(CASE,))
TURNED = ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (-1.0, 0.0, 0.0))  # array axes run y->x, x->y, z against z


def scan(voxels, spacing=(2.0, 1.0, 0.5), **grid):
    voxels = np.asarray(voxels, np.float32)
    return Image(voxels=voxels, grid=Grid(shape=voxels.shape[1:], spacing=spacing, **grid))


def reference(image, voxels):
    return Label(voxels=voxels, grid=image.grid)


@pytest.fixture
def brain():
    """One channel, non-zero in [2:8, 5:15, 3:27], with a zero hole inside."""
    voxels = np.zeros((1, 10, 20, 30), np.float32)
    voxels[0, 2:8, 5:15, 3:27] = 7.0
    voxels[0, 4, 8, 10] = 0.0
    return scan(voxels)


def test_crop_is_the_box_of_the_non_zero_voxels(brain):
    facts = measure_case(brain, None, case=CASE, labels=LABELS)
    assert facts.shape == (10, 20, 30)
    assert facts.cropped_shape == (6, 10, 24)
    assert facts.spacing == (2.0, 1.0, 0.5)


def test_crop_is_the_union_over_channels():
    voxels = np.zeros((2, 10, 20, 30), np.float32)
    voxels[0, 1, 2, 3] = 1
    voxels[1, 4, 8, 9] = -1
    assert measure_case(scan(voxels), None, case=CASE, labels=LABELS).cropped_shape == (4, 7, 7)


def test_the_head_is_measured_with_the_labels_that_it_leaves_out():
    voxels = np.ones((1, 10, 20, 30), np.float32)
    voxels[0, 2:8, 5:15, 3:27] = 100.0
    label = np.zeros((10, 20, 30), np.uint8)
    label[4, 8, 10:13] = 1
    label[0, 0, 0] = 1
    image = scan(voxels)
    head = measure_case(image, reference(image, label), case=CASE, labels=LABELS).head
    assert head.shape == (8, 12, 26)  # and a margin of one voxel
    assert head.share == pytest.approx(8 * 12 * 26 / 6000)
    assert head.outside_share == 0.25


def test_an_empty_scan_is_not_cropped_and_has_no_brain():
    facts = measure_case(scan(np.zeros((1, 4, 5, 6))), None, case=CASE, labels=LABELS)
    assert facts.cropped_shape == (4, 5, 6)
    assert facts.channels[0].brain.count == 0


def test_axes_are_turned_to_canonical_before_measuring(brain):
    turned = Image(voxels=brain.voxels, grid=brain.grid.model_copy(update={"direction": TURNED}))
    label = np.zeros((10, 20, 30), np.uint8)
    label[2, 14, 26] = 1
    facts = measure_case(turned, reference(turned, label), case=CASE, labels=LABELS)
    straight = measure_case(brain, reference(brain, label), case=CASE, labels=LABELS)
    assert straight.lesions[0].centre == (0.083, 0.95, 0.979)  # 0.5/6, 9.5/10, 23.5/24
    assert facts.shape == (10, 30, 20)
    assert facts.cropped_shape == (6, 24, 10)
    assert facts.spacing == (2.0, 0.5, 1.0)
    assert facts.lesions[0].centre == (0.917, 0.979, 0.95)  # the first axis runs the other way


def test_foreground_intensities_exclude_background_and_ignored_voxels():
    voxels = np.arange(120, dtype=np.float32).reshape(1, 4, 5, 6)
    label = np.zeros((4, 5, 6), np.uint8)
    label[0, 0, 1], label[0, 0, 3], label[0, 0, 5] = 1, 2, 3
    image = scan(voxels)
    labels = {**LABELS, "ignore": 3}
    facts = measure_case(image, reference(image, label), case=CASE, labels=labels, ignore_label=3)
    inside = facts.channels[0].foreground
    assert (inside.count, inside.mean, inside.std, inside.minimum, inside.maximum) == (2, 2.0, 1.0, 1.0, 3.0)
    assert facts.label_voxels == {"core": 1, "edema": 1}
    assert facts.channels[0].brain.count == 119  # voxel 0 is 0


def test_without_labelled_voxels_there_is_no_foreground():
    image = scan(np.ones((1, 4, 5, 6)))
    facts = measure_case(image, reference(image, np.zeros((4, 5, 6), np.uint8)), case=CASE, labels=LABELS)
    assert facts.channels[0].foreground is None
    assert facts.label_voxels == {"core": 0, "edema": 0}
    assert facts.lesions == ()


def test_without_a_reference_nothing_is_counted():
    facts = measure_case(scan(np.ones((1, 4, 5, 6))), None, case=CASE, labels=LABELS)
    assert facts.label_voxels == {}


def test_lesions_are_26_connected_components_of_one_label_largest_first():
    image = scan(np.ones((1, 10, 20, 30)))
    label = np.zeros((10, 20, 30), np.uint8)
    label[0, 0, 0] = 1  # touches the next by a corner: one lesion of 2 voxels
    label[1, 1, 1] = 1
    label[1, 1, 2] = 2  # touches a lesion of another label: its own
    label[5, 5, 5:10] = 2
    facts = measure_case(image, reference(image, label), case=CASE, labels=LABELS)
    # One voxel is 2 x 1 x 0.5 mm = 0.001 ml.
    assert [(lesion.label, lesion.volume_ml) for lesion in facts.lesions] == [
        ("edema", 0.005),
        ("core", 0.002),
        ("edema", 0.001),
    ]


def test_a_lesion_outside_the_crop_has_its_centre_on_the_border(brain):
    label = np.zeros((10, 20, 30), np.uint8)
    label[0, 10, 29] = 1
    facts = measure_case(brain, reference(brain, label), case=CASE, labels=LABELS)
    assert facts.lesions[0].centre == (0.0, 0.55, 1.0)


def test_quantiles_of_a_known_distribution():
    facts = measure_intensities(np.arange(1001, dtype=np.float32)[::-1])
    assert (facts.percentile_00_5, facts.median, facts.percentile_99_5) == (5.0, 500.0, 995.0)
    assert facts.quantiles == (20, 50, 100, 250, 750, 900, 950, 980)


def test_pooling_weights_cases_alike_and_adds_the_spread_between_them():
    few = measure_intensities(np.array([0.0, 2.0], np.float32))  # mean 1, variance 1
    many = measure_intensities(np.tile(np.array([10.0, 14.0], np.float32), 500))  # mean 12, variance 4
    pooled = pool_intensities([few, many])
    assert pooled.count == 1002
    assert pooled.mean == 6.5
    assert pooled.std == pytest.approx(math.sqrt((1 + 4) / 2 + 5.5**2))
    assert (pooled.minimum, pooled.maximum) == (0.0, 14.0)
    assert len(pooled.quantiles) == 8


def test_pooled_percentiles_are_those_of_all_cases_together():
    rng = np.random.default_rng(0)
    values = [rng.normal(mean, 10, 20_000).astype(np.float32) for mean in (100, 120, 170)]
    pooled = pool_intensities([measure_intensities(v) for v in values])
    exact = np.percentile(np.concatenate(values), [0.5, 50, 99.5])
    assert [pooled.percentile_00_5, pooled.median, pooled.percentile_99_5] == pytest.approx(exact, abs=1.5)
    means_of_percentiles = np.mean([np.percentile(v, 99.5) for v in values])
    assert abs(means_of_percentiles - exact[2]) > 20  # what averaging the cases' percentiles would have said


def test_pooling_one_case_gives_its_own_numbers():
    case = measure_intensities(np.arange(1001, dtype=np.float32))
    pooled = pool_intensities([case])
    assert pooled.model_dump(exclude={"quantiles"}) == pytest.approx(case.model_dump(exclude={"quantiles"}))
    assert pooled.quantiles == pytest.approx(case.quantiles)


def test_pooling_constant_cases_does_not_divide_by_zero():
    constant = measure_intensities(np.full(5, 3.0, np.float32))
    pooled = pool_intensities([constant, constant])
    assert (pooled.mean, pooled.std, pooled.median, pooled.percentile_99_5) == (3.0, 0.0, 3.0, 3.0)


@pytest.fixture
def two():
    """A fingerprint of two cases: one with a lesion of 0.2 ml and one of 0.001 ml, one without any."""
    image = scan(np.ones((1, 10, 20, 30)))
    label = np.zeros((10, 20, 30), np.uint8)
    label[0:4, 0:5, 0:10], label[9, 9, 9] = 1, 2
    small = np.zeros((1, 10, 20, 30))
    small[0, :5] = 1
    empty = scan(small, spacing=(4.0, 1.0, 0.5))
    facts = [
        measure_case(empty, reference(empty, label * 0), case=CASE.model_copy(update={"id": "b"}), labels=LABELS),
        measure_case(image, reference(image, label), case=CASE, labels=LABELS),
    ]
    return summarize(DATASET, "key", facts)


def test_a_fingerprint_sorts_cases_and_keeps_group_and_site(two):
    assert [case.case for case in two.cases] == ["a", "b"]
    assert (two.cases[0].group, two.cases[0].site) == ("p1", "north")
    assert two.dataset_key == "key"


def test_dataset_intensities_come_from_cases_with_foreground(two):
    assert two.intensities["T1"].count == 201


def test_a_fingerprint_survives_its_file_with_one_line_per_lesion(two):
    text = render_record(two)
    assert parse_record(Fingerprint, text, path=Path("fingerprint.json"), advice="") == two
    assert sum("volume_ml" in line and "centre" in line for line in text.splitlines()) == 2


def test_medians_of_the_planner(two):
    assert median_spacing(two) == (3.0, 1.0, 0.5)
    assert median_cropped_shape(two) == (7.5, 20.0, 30.0)
    assert median_crop_share(two) == 0.75


def test_lesion_summary(two):
    summary = two.lesions
    assert (summary.cases, summary.empty_cases, summary.count) == (2, 1, 2)
    assert (summary.per_case, summary.most_per_case, summary.per_case_ml) == (2.0, 2, 0.201)
    assert (summary.smallest_ml, summary.median_ml, summary.largest_ml, summary.total_ml) == (0.001, 0.1005, 0.2, 0.201)
    # Straight between 0.001 and 0.2: a share q of the way is 0.001 + 0.199 q.
    assert (summary.percentile_05_ml, summary.percentile_95_ml) == (0.01095, 0.19005)
    assert (summary.quartile_1_ml, summary.quartile_3_ml) == (0.05075, 0.15025)
    assert summary.small_share == 0.5


def test_where_lesions_lie(two):
    # Of 10 x 20 x 30 voxels: the large one has its centre at (2, 2.5, 5), the small one at (9.5, 9.5, 9.5). Both lie in
    # the first half of the left-right axis, which begins at the patient's right.
    found = two.lesions.positions
    assert (found.left_share, found.right_share, found.left_volume_share, found.right_volume_share) == (0, 1, 0, 1)
    assert found.centre == (0.575, 0.3, 0.242)
    assert found.spread == (0.375, 0.175, 0.075)


def test_a_scan_that_runs_to_the_right_has_its_lesion_on_the_same_side():
    # ITK's x runs to the patient's left; along a reversed first column it runs to the right.
    voxels, label = np.ones((1, 4, 5, 6)), np.zeros((4, 5, 6), np.uint8)
    label[1, 2, 0] = 1
    sides = []
    for x in (1.0, -1.0):
        image = scan(voxels, direction=((0.0, 0.0, x), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)))
        facts = measure_case(image, reference(image, label), case=CASE, labels=LABELS)
        sides.append(summarize(DATASET, "key", [facts]).lesions.positions)
    assert [(s.left_share, s.right_share) for s in sides] == [(0, 1), (1, 0)]


def test_how_often_each_label_occurs(two):
    core, edema = two.frequencies["core"], two.frequencies["edema"]
    assert (core.cases, core.case_share, core.lesions, core.total_ml) == (1, 0.5, 1, 0.2)
    assert core.voxel_share == pytest.approx(200 / (10 * 20 * 30 + 5 * 20 * 30), rel=1e-5)
    assert (edema.cases, edema.lesions, edema.total_ml) == (1, 1, 0.001)


def test_no_lesion_lies_nowhere():
    image = scan(np.ones((1, 4, 5, 6)))
    facts = measure_case(image, reference(image, np.zeros((4, 5, 6), np.uint8)), case=CASE, labels=LABELS)
    summary = summarize(DATASET, "key", [facts]).lesions
    assert summary.positions is None
    assert (summary.count, summary.empty_cases, summary.largest_ml, summary.per_case_ml) == (0, 1, 0, 0)


def test_intensities_inside_the_brain_are_those_of_the_non_zero_region(two):
    # All 6000 voxels of the one case and 3000 of the other are 1; without lesions, a case counts as well.
    inside = two.brain_intensities["T1"]
    assert (inside.count, inside.mean, inside.std, inside.median) == (9000, 1.0, 0.0, 1.0)
