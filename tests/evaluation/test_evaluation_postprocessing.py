"""Post-processing and its search: tiny volumes worked by hand, and the search against the finished mask itself."""

import numpy as np
import pytest

from autoseg.core.records import Dataset, Outputs, PostProcessing
from autoseg.evaluation import Convention, score_case
from autoseg.evaluation.cases import name_targets
from autoseg.evaluation.postprocessing import (
    SETTINGS,
    SMALLEST_ML,
    UNCHANGED,
    SearchCase,
    choose_settings,
    clean_classes,
    describe_setting,
    finish_mask,
    group_patients,
    mean_targets,
    needs_probabilities,
    score_settings,
)
from autoseg.evaluation.statistics import standard_error

CLASSES = Outputs(names=("background", "edema", "core"), values=(0, 1, 4), overlap=False)
ONE = Outputs(names=("background", "lesion"), values=(0, 1), overlap=False)
REGIONS = Outputs(names=("whole", "inner"), values=(1, 2), overlap=True)


def of_lesion(shares):
    """(2,1,1,X) from the probabilities of a lesion along a line."""
    line = np.asarray(shares, np.float32).reshape(1, 1, -1)
    return np.stack([1 - line, line])


def finish(shares, outputs=ONE, *, volume_ml=0.01, **settings):
    return finish_mask(np.asarray(shares, np.float32), outputs, settings, voxel_volume_ml=volume_ml)


def test_the_plainest_setting_comes_first_and_none_is_missing():
    assert SETTINGS[0] == UNCHANGED == PostProcessing()
    assert len(set(map(str, SETTINGS))) == len(SETTINGS) == 9 * len(SMALLEST_ML) * 4 * 2
    removing = [SETTINGS.index(PostProcessing(**each)) for each in (
        {"smallest_lesion_ml": 0.005}, {"smallest_lesion_ml": 1.0}, {"largest_lesions": 3}, {"largest_lesions": 1},
    )]  # fmt: skip
    assert removing == sorted(removing)


def test_a_threshold_replaces_the_most_probable_class():
    shares = of_lesion([0.2, 0.3, 0.5, 0.6, 0.9])
    assert finish(shares).ravel().tolist() == [0, 0, 0, 1, 1]
    assert finish(shares, lesion=PostProcessing(threshold=0.3)).ravel().tolist() == [0, 1, 1, 1, 1]
    assert finish(shares, lesion=PostProcessing(threshold=0.7)).ravel().tolist() == [0, 0, 0, 0, 1]


def test_a_voxel_goes_to_the_likeliest_class_that_claims_it():
    shares = np.array([[0.5, 0.1, 0.1], [0.3, 0.5, 0.3], [0.2, 0.4, 0.6]], np.float32).reshape(3, 1, 1, 3)
    assert finish(shares, CLASSES).ravel().tolist() == [0, 1, 4]
    low = PostProcessing(threshold=0.2)
    assert finish(shares, CLASSES, core=low).ravel().tolist() == [4, 1, 4]
    assert finish(shares, CLASSES, core=low, edema=low).ravel().tolist() == [1, 1, 4]
    high = PostProcessing(threshold=0.7)
    assert finish(shares, CLASSES, edema=high).ravel().tolist() == [0, 0, 4]  # given up, not handed to core


def test_lesions_below_the_smallest_volume_go_and_one_of_that_volume_stays():
    shares = of_lesion([0.9, 0.9, 0, 0.9, 0.9, 0.9, 0, 0.9])  # 2, 3 and 1 voxels
    kept = finish(shares, volume_ml=0.1, lesion=PostProcessing(smallest_lesion_ml=0.2)).ravel()
    assert kept.tolist() == [1, 1, 0, 1, 1, 1, 0, 0]
    kept = finish(shares, volume_ml=0.1, lesion=PostProcessing(smallest_lesion_ml=0.3)).ravel()
    assert kept.tolist() == [0, 0, 0, 1, 1, 1, 0, 0]


def test_only_the_largest_lesions_stay_and_of_equal_ones_the_first():
    shares = of_lesion([0.9, 0.9, 0, 0.9, 0.9, 0.9, 0, 0.9, 0.9, 0, 0.9])  # 2, 3, 2 and 1 voxels
    mask = finish(shares, lesion=PostProcessing(largest_lesions=1)).ravel()
    assert mask.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0]
    mask = finish(shares, lesion=PostProcessing(largest_lesions=2)).ravel()
    assert mask.tolist() == [1, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0]
    both = PostProcessing(largest_lesions=3, smallest_lesion_ml=0.03)
    assert finish(shares, lesion=both, volume_ml=0.01).ravel().tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0]
    assert finish(shares, lesion=PostProcessing(largest_lesions=9)).sum() == 8
    assert not finish(np.zeros_like(shares), lesion=PostProcessing(largest_lesions=1)).any()


def test_a_mask_of_classes_alone_is_cleaned_as_probabilities_are():
    rng = np.random.default_rng(3)
    case = make_case(rng, CLASSES)
    plain = finish(case.probabilities, CLASSES)
    settings = {
        "edema": PostProcessing(largest_lesions=2, fill_holes=True),
        "core": PostProcessing(smallest_lesion_ml=0.03),
    }
    expected = finish(case.probabilities, CLASSES, **settings)
    assert not needs_probabilities(CLASSES, settings)
    assert not np.array_equal(plain, expected)
    clean_classes(plain, CLASSES, settings, voxel_volume_ml=0.01)
    assert np.array_equal(plain, expected)


def test_thresholds_and_regions_need_probabilities():
    largest, threshold = PostProcessing(largest_lesions=1), PostProcessing(threshold=0.4)
    assert needs_probabilities(CLASSES, {"edema": largest, "core": threshold})
    assert needs_probabilities(REGIONS, {"whole": largest})
    assert not needs_probabilities(REGIONS, {"whole": UNCHANGED})
    assert not needs_probabilities(CLASSES, {})


def test_lesions_touch_by_corners():
    voxels = np.zeros((2, 2, 2), np.float32)
    voxels[0, 0, 0] = voxels[1, 1, 1] = 0.9
    shares = np.stack([1 - voxels, voxels])
    assert finish(shares, volume_ml=0.1, lesion=PostProcessing(smallest_lesion_ml=0.2)).sum() == 2


def test_only_enclosed_background_is_filled():
    shell = np.full((3, 3, 3), 0.9, np.float32)
    shell[1, 1, 1] = 0.1
    shares = np.zeros((3, 5, 5, 5), np.float32)
    shares[1, 1:4, 1:4, 1:4] = shell
    shares[0] = 1 - shares[1]
    fill = PostProcessing(fill_holes=True)
    assert finish(shares, CLASSES).astype(bool).sum() == 26
    assert finish(shares, CLASSES, edema=fill)[2, 2, 2] == 1
    shares[:, 2, 2, 2] = 0.1, 0.1, 0.8
    assert finish(shares, CLASSES, edema=fill)[2, 2, 2] == 4  # core inside edema stays
    shares[0, 2, 2, 1:4], shares[1, 2, 2, 1:4] = 0.9, 0.1
    shares[2, 2, 2, 2] = 0.0
    assert finish(shares, CLASSES, edema=fill)[2, 2, 2] == 0  # a tunnel is no hole


def test_regions_are_finished_each_by_itself_and_painted_in_order():
    whole, inner = [0.6, 0.6, 0.6, 0.2], [0.4, 0.6, 0.1, 0.4]
    shares = np.array([whole, inner], np.float32).reshape(2, 1, 1, 4)
    assert finish(shares, REGIONS).ravel().tolist() == [1, 2, 1, 0]
    assert finish(shares, REGIONS, inner=PostProcessing(threshold=0.4)).ravel().tolist() == [2, 2, 1, 2]
    assert finish(shares, REGIONS, whole=PostProcessing(threshold=0.7)).ravel().tolist() == [0, 2, 0, 0]


# --------------------------------------------------------------------------------------------------- search


def make_case(rng, outputs, *, ignore_label=None):
    shape = (7, 12, 10)
    if outputs.overlap:
        logits = rng.normal(-0.5, 5, (len(outputs.values), *shape))
        shares = 1 / (1 + np.exp(-smooth(logits)))
    else:
        logits = smooth(rng.normal(0, 2, (len(outputs.values), *shape)))
        logits[0] += 0.5
        shares = np.exp(logits) / np.exp(logits).sum(axis=0)
    reference = rng.choice(np.array([0, *outputs.values]), shape).astype(np.int16)
    if ignore_label is not None:
        reference[:, :2] = ignore_label
    counted = reference.size - (0 if ignore_label is None else int((reference == ignore_label).sum()))
    return SearchCase(
        probabilities=shares.astype(np.float32),
        reference=reference,
        spacing=(3.0, 2.0, 1.0),
        ignore_label=ignore_label,
        voxels=counted,
    )


def smooth(voxels):
    for axis in range(1, 4):
        voxels = voxels + np.roll(voxels, 1, axis) + np.roll(voxels, -1, axis)
    return voxels / 9


@pytest.mark.parametrize(
    ("outputs", "labels", "regions", "ignore"),
    [
        (CLASSES, {"background": 0, "edema": 1, "core": 4}, {}, None),
        (CLASSES, {"background": 0, "edema": 1, "core": 4, "ignore": 9}, {}, 9),
        (REGIONS, {"background": 0, "rim": 1, "nucleus": 2}, {"whole": (1, 2), "inner": (2,)}, None),
    ],
    ids=["classes", "ignored", "regions"],
)
@pytest.mark.parametrize("metric", ["dice", "lesion_f1", "specificity"])
def test_the_search_scores_what_the_finished_mask_scores(outputs, labels, regions, ignore, metric):
    rng = np.random.default_rng(5)
    case = make_case(rng, outputs, ignore_label=ignore)
    dataset = Dataset(name="Tiny", kind="nnunet", channels=("T1",), labels=labels, regions=regions, ignore_label=ignore)
    targets = name_targets(dataset)
    tables = score_settings(case, outputs, targets, metric=metric, empty_score="one")
    assert len({round(float(score), 6) for score in tables[next(iter(targets))]}) > 1  # settings differ
    for label in targets:
        for number in rng.choice(len(SETTINGS), 25, replace=False):
            mask = finish_mask(case.probabilities, outputs, {label: SETTINGS[number]}, voxel_volume_ml=0.006)
            scores = score_case(
                "case",
                mask,
                case.reference,
                spacing=case.spacing,
                dataset=dataset,
                convention=Convention(metrics=(metric,), empty_score="one"),
            )
            assert tables[label][number] == pytest.approx(scores.scores[label][metric]), SETTINGS[number]


@pytest.mark.parametrize("probability", [0.05, 0.95], ids=["empty", "full"])
def test_a_case_without_background_or_without_anything_is_searched(probability):
    case = SearchCase(
        probabilities=np.stack([np.full((2, 3, 3), 1 - probability), np.full((2, 3, 3), probability)]),
        reference=np.full((2, 3, 3), int(probability > 0.5), np.uint8),
        spacing=(1.0, 1.0, 1.0),
        ignore_label=None,
        voxels=18,
    )
    scores = score_settings(case, ONE, {"lesion": (1,)}, metric="dice", empty_score="one")["lesion"]
    removed = [setting.smallest_lesion_ml > 0.018 and probability > 0.5 for setting in SETTINGS]
    assert scores.tolist() == [0.0 if is_removed else 1.0 for is_removed in removed]


def index_of(**values):
    return SETTINGS.index(PostProcessing(**values))


PATIENTS = list("abcdef")


def choose(table, groups, patients=PATIENTS, *, higher_is_better=True):
    return choose_settings({"lesion": table}, list(groups), patients[: len(table)], higher_is_better=higher_is_better)


def test_a_setting_that_helps_in_every_fold_is_taken():
    table = np.full((6, len(SETTINGS)), 0.5)
    helpful = index_of(smallest_lesion_ml=0.05)
    table[:, helpful] = 0.6
    final, without = choose(table, "001122")
    assert final == {"lesion": SETTINGS[helpful]}
    assert without == {fold: {"lesion": SETTINGS[helpful]} for fold in "012"}
    assert mean_targets({"lesion": table}, list("001122"), without) == pytest.approx((0.5, 0.6))


def test_what_helps_only_the_fold_it_is_chosen_on_is_left():
    table = np.full((4, len(SETTINGS)), 0.5)
    table[:2, index_of(threshold=0.4)] = [0.9, 0.9]  # fold 0
    table[2:, index_of(threshold=0.4)] = [0.2, 0.2]
    table[:2, index_of(threshold=0.6)] = [0.2, 0.2]
    table[2:, index_of(threshold=0.6)] = [0.8, 0.8]  # fold 1
    final, without = choose(table, "0011")
    assert final == {}
    assert without == {"0": {}, "1": {}}
    assert mean_targets({"lesion": table}, list("0011"), without) == pytest.approx((0.5, 0.5))


def test_a_gain_within_noise_is_left():
    """A mean gain of 0.01, whatever patient is left out, with a standard error of 0.022 and of 0.013."""
    table = np.full((6, len(SETTINGS)), 0.5)
    largest = index_of(largest_lesions=1)
    table[:, largest] += [0.059, 0.059, 0.059, -0.039, -0.039, -0.039]
    assert choose(table, "012345")[0] == {}
    table[:, largest] = 0.5 + np.array([0.04, 0.04, 0.04, -0.02, -0.02, -0.02])
    assert choose(table, "012345")[0] == {"lesion": SETTINGS[largest]}


def test_noise_is_that_of_patients():
    values = np.array([0.3, 0.3, 0.3, 0.0, 0.0, 0.0])
    assert standard_error(values, list("aaabbb")) == pytest.approx(0.15)  # of two means
    assert standard_error(values, list("abcdef")) == pytest.approx(values.std(ddof=1) / np.sqrt(6))
    assert standard_error(values, list("aaaaaa")) == np.inf


def test_patients_are_dealt_to_ten_groups_at_most():
    assert group_patients(["b", "a", "b", "c"]) == ["1", "0", "1", "2"]
    groups = group_patients([f"{number:02}" for number in range(25)])
    assert sorted(map(groups.count, set(groups))) == [2] * 5 + [3] * 5


def test_of_equal_settings_the_plainest_is_taken():
    table = np.full((4, len(SETTINGS)), 0.5)
    table[:, [index_of(fill_holes=True), index_of(threshold=0.1, smallest_lesion_ml=1.0)]] = 0.7
    assert choose(table, "0011")[0] == {"lesion": PostProcessing(fill_holes=True)}


def test_lower_may_be_better_and_a_mask_that_vanished_is_no_gain():
    table = np.full((4, len(SETTINGS)), 10.0)
    table[:, index_of(threshold=0.9)] = [np.nan, 1.0, 1.0, 1.0]  # one mask became empty
    table[:, index_of(threshold=0.6)] = 8.0
    assert choose(table, "0011", higher_is_better=False)[0] == {"lesion": PostProcessing(threshold=0.6)}


def test_one_group_decides_nothing():
    table = np.full((4, len(SETTINGS)), 0.5)
    table[:, 3] = 0.9
    assert choose(table, "0000") == ({}, {"0": {}})


def test_settings_in_words():
    assert describe_setting(UNCHANGED) == "unchanged"
    both = PostProcessing(threshold=0.3, smallest_lesion_ml=0.02, fill_holes=True)
    assert describe_setting(both) == "a probability of 0.3 or more, no lesion below 0.02 ml, holes filled"
    assert describe_setting(PostProcessing(largest_lesions=1)) == "only the largest lesion"
    assert describe_setting(PostProcessing(largest_lesions=3)) == "only the 3 largest lesions"
