"""Class weights by frequency, worked by hand."""

import pytest

from autoseg.core.errors import PlanError, UsageError
from autoseg.core.records import LabelSummary
from autoseg.losses import build_loss
from autoseg.planning import make_plan, weigh_classes

LABELS = {"background": 0, "edema": 1, "core": 2, "enhancing": 3}
SHARES = {"edema": 0.05, "core": 0.02, "enhancing": 0.03}


@pytest.fixture
def measured(gather, case):
    """A fingerprint with these shares of the voxels."""

    def make(shares, **changes):
        frequencies = {
            name: LabelSummary(cases=1, case_share=1.0, voxel_share=share, lesions=1, total_ml=1.0)
            for name, share in shares.items()
        }
        made = gather([case("a", (20, 20, 20))])
        return made.model_copy(update={"labels": LABELS, "frequencies": frequencies, **changes})

    return make


def test_a_class_weighs_by_the_inverse_of_its_share(measured):
    # Shares 0.9, 0.05, 0.02, 0.03; inverse 1.111, 20, 50, 33.33, together 104.44.
    expected = [1.1111 / 104.444, 20 / 104.444, 50 / 104.444, 33.333 / 104.444]
    assert weigh_classes(measured(SHARES)) == pytest.approx(expected, rel=1e-3)


def test_a_region_weighs_by_all_its_labels(measured):
    regions = {"whole": (1, 2, 3), "tumour_core": (2, 3), "active": (3,)}
    # Shares 0.1, 0.05, 0.03; inverse 10, 20, 33.33, together 63.33.
    expected = [10 / 63.333, 20 / 63.333, 33.333 / 63.333]
    assert weigh_classes(measured(SHARES, regions=regions)) == pytest.approx(expected, rel=1e-3)


def test_an_ignored_label_has_no_weight(measured):
    found = measured(SHARES, labels={**LABELS, "ignored": 4}, ignore_label=4)
    assert weigh_classes(found) == weigh_classes(measured(SHARES))


def test_a_label_that_never_occurs_is_named(measured):
    with pytest.raises(PlanError, match="'core' has no voxel in any label file of Made"):
        weigh_classes(measured({**SHARES, "core": 0.0}))


def test_a_plan_by_frequency_weighs_every_loss_and_says_why(measured):
    found = measured(SHARES)
    plain = make_plan(found, preset="pocket", memory_gb=4.0)
    weighed = make_plan(found, preset="pocket", memory_gb=4.0, class_weights="frequency")
    assert weighed.class_weights == "frequency"
    for name, configuration in weighed.configurations.items():
        assert configuration.loss.options["class_weights"] == list(weigh_classes(found))
        assert plain.reasons[f"{name}.loss"] in weighed.reasons[f"{name}.loss"]
        assert "(--class-weights frequency): background 0.01064, edema 0.1915" in weighed.reasons[f"{name}.loss"]
        build_loss(configuration.loss, outputs=4)
    unweighed = {name: c.model_copy(update={"loss": plain.configurations[name].loss}) for name, c in
                 weighed.configurations.items()}  # fmt: skip
    assert unweighed == plain.configurations


def test_nnunet_weighs_no_classes(measured):
    with pytest.raises(UsageError, match=r"nnU-Net has no class weights; use --class-weights none or --compat none"):
        make_plan(measured(SHARES), preset="standard", memory_gb=8.0, compat="nnunet", class_weights="frequency")
