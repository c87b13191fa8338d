"""When preprocessed voxels are halved: by the size of all cases together, on the network's grid."""

import pytest

from autoseg.planning import find_prepared_shape, make_plan
from autoseg.planning.presets import find_preset
from autoseg.planning.storage import plan_storage

CASES = 2**31 // (128**3 * 2 * 4)  # of 128 voxels a side and two channels, as float32 what is held in memory


def stored(fingerprint, count, compat=None):
    facts = fingerprint(count, (128, 128, 128), channels=("FLAIR", "T1"))
    plan = make_plan(facts, preset="standard", memory_gb=8, compat=compat)
    return plan.configurations["3d"].preprocessing.storage, plan.reasons["3d.preprocessing.storage"]


def test_arrays_that_fit_in_memory_are_not_rounded(fingerprint):
    assert stored(fingerprint, CASES) == (
        "float32",
        "All 128 cases take 2.1 GB as float32; up to 2.1 GB are kept in memory without rounding.",
    )


def test_larger_ones_are_halved(fingerprint):
    storage, why = stored(fingerprint, CASES + 1)
    assert storage == "float16"
    assert "All 129 cases take 2.2 GB as float32, over the 2.1 GB" in why


def test_a_plan_as_nnunet_makes_it_stores_float32(fingerprint):
    storage, why = stored(fingerprint, CASES + 1, compat="nnunet")
    assert storage == "float32"
    assert "in which nnU-Net stores them" in why


def test_what_counts_is_the_size_on_the_networks_grid(fingerprint):
    facts = fingerprint(CASES, (128, 128, 128), channels=("FLAIR", "T1"))
    plan = make_plan(facts, preset="standard", memory_gb=8)
    finer = plan.configurations["3d"].preprocessing.model_copy(update={"spacing": (1.0, 1.0, 0.9)})
    assert plan_storage(facts, finer, find_preset("standard"))[0].storage == "float16"


@pytest.mark.parametrize(
    ("order", "spacing", "shape"),
    [((0, 1, 2), (None, None, None), (10, 20, 30)), ((2, 0, 1), (1.0, None, 0.5), (90, 10, 80))],
)
def test_the_shape_follows_the_axis_order_and_the_spacing(fingerprint, order, spacing, shape):
    facts = fingerprint(1, (10, 20, 30), (1.0, 2.0, 3.0))
    settings = make_plan(facts, preset="pocket", memory_gb=4).configurations["3d"].preprocessing
    settings = settings.model_copy(update={"axis_order": order, "spacing": spacing})
    assert find_prepared_shape(facts.cases[0], settings) == shape
