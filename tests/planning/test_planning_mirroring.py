"""Labels that are told apart by where they lie must not be mirrored into each other."""

from autoseg.core.records import CaseFacts, ChannelFacts, Fingerprint, IntensityFacts, LesionFacts
from autoseg.fingerprint import summarize_lesions
from autoseg.planning.mirroring import positional_axes

INTENSITIES = IntensityFacts(
    count=1, mean=0, std=1, minimum=0, maximum=1, percentile_00_5=0, median=0, percentile_99_5=1
)


def fingerprint(*cases):
    """One case per tuple of (label, volume_ml, centre)."""
    facts = tuple(
        CaseFacts(
            case=f"case{number}",
            group=None,
            site=None,
            shape=(10, 20, 30),
            spacing=(1, 1, 1),
            cropped_shape=(10, 20, 30),
            channels=(ChannelFacts(foreground=INTENSITIES, brain=INTENSITIES),),
            label_voxels={"a": 1, "b": 1},
            lesions=tuple(LesionFacts(label=label, volume_ml=ml, centre=centre) for label, ml, centre in lesions),
        )
        for number, lesions in enumerate(cases)
    )
    return Fingerprint(
        dataset="x",
        dataset_key="x",
        channels=("MRI",),
        labels={"background": 0, "a": 1, "b": 2},
        lesions=summarize_lesions(facts),
        cases=facts,
        intensities={"MRI": INTENSITIES},
    )


def pair(first, second):
    return (("a", 1.0, first), ("b", 1.0, second))


def test_front_and_back_forbid_that_axis_alone():
    found = positional_axes(fingerprint(*[pair((0.5, 0.3, 0.5), (0.5, 0.7, 0.5))] * 10))
    assert list(found) == [1]
    assert found[1].startswith("along the front-back axis a is on the same side of b in 100% of 10 cases")
    assert found[1].endswith(", on average 40% of the scan away")


def test_sides_that_change_from_case_to_case_forbid_nothing():
    left, right = pair((0.5, 0.5, 0.3), (0.5, 0.5, 0.7)), pair((0.5, 0.5, 0.7), (0.5, 0.5, 0.3))
    assert not positional_axes(fingerprint(*[left, right] * 5))


def test_a_lesion_within_another_has_no_side():
    assert not positional_axes(fingerprint(*[pair((0.50, 0.5, 0.5), (0.53, 0.5, 0.5))] * 10))


def test_few_cases_prove_nothing():
    assert not positional_axes(fingerprint(*[pair((0.1, 0.5, 0.5), (0.9, 0.5, 0.5))] * 4))


def test_the_centre_of_a_label_is_weighted_by_volume():
    lesions = (("a", 9.0, (0.5, 0.1, 0.5)), ("a", 1.0, (0.5, 0.9, 0.5)), ("b", 1.0, (0.5, 0.3, 0.5)))
    found = positional_axes(fingerprint(*[lesions] * 10))  # centre of a: 0.18
    assert found[1].endswith("on average 12% of the scan away")
