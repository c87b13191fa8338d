"""What each preset makes of a dataset, and that it holds together."""

import pytest

from autoseg.core.errors import UsageError
from autoseg.core.records import Dataset
from autoseg.evaluation import PRESETS, apply_preset
from autoseg.metrics import METRICS
from autoseg.options.shared import SCORING_PRESETS as OFFERED


def dataset(**labels):
    return Dataset(name="d", kind="folder", channels=(), labels={"background": 0, **labels})


def test_the_command_line_offers_every_preset():
    assert set(OFFERED) == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_names_metrics_that_masks_alone_can_have(name):
    _, convention = apply_preset(name, dataset(lesion=1))

    assert convention.preset == name
    assert convention.metrics
    assert not any(METRICS[metric].needs_probability for metric in convention.metrics)


@pytest.mark.parametrize(
    ("name", "dice_of_nothing"), [("isles22", 1.0), ("isles24", 1.0), ("atlas", 1.0), ("brats", 1.0), ("nnunet", None)]
)
def test_two_empty_masks_score_as_the_challenge_says(name, dice_of_nothing):
    _, convention = apply_preset(name, dataset(lesion=1))

    assert METRICS["dice"].empty_value(convention.empty_score) == dice_of_nothing


def test_brats_gives_an_overlooked_tumour_374_mm():
    assert apply_preset("brats", dataset(tumour=1))[1].penalty_mm == 374.0


@pytest.mark.parametrize("enhancing", [3, 4])
def test_brats_unites_the_parts_of_a_tumour(enhancing):
    found, convention = apply_preset("brats", dataset(core=1, oedema=2, enhancing=enhancing))

    assert found.regions == {
        "whole_tumour": (1, 2, enhancing),
        "tumour_core": (1, enhancing),
        "enhancing_tumour": (enhancing,),
    }
    assert f"tumour_core {{1, {enhancing}}}" in convention.rules[0]


@pytest.mark.parametrize("labels", [{"lesion": 1}, {"a": 1, "b": 2, "c": 5}])
def test_brats_leaves_other_labels_as_they_are(labels):
    found, convention = apply_preset("brats", dataset(**labels))

    assert (found.regions, convention.rules) == ({}, ())


def test_brats_keeps_the_regions_of_a_dataset():
    own = dataset(a=1, b=2, c=3).model_copy(update={"regions": {"mine": (1, 2)}})

    assert apply_preset("brats", own)[0].regions == {"mine": (1, 2)}


def test_wmh_leaves_other_pathology_out():
    found, convention = apply_preset("wmh", dataset(wmh=1, other=2))

    assert (found.labels, found.ignore_label) == ({"background": 0, "wmh": 1, "ignore": 2}, 2)
    assert "label 2" in convention.rules[0]
    assert apply_preset("wmh", dataset(wmh=1))[1].rules == ()


def test_unknown_preset_names_the_known_ones():
    with pytest.raises(
        UsageError, match=r"unknown preset 'isles' \(did you mean .*; choose from: isles22, isles24, atlas"
    ):
        apply_preset("isles", dataset(lesion=1))
