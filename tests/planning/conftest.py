"""Fingerprints made up from a shape, a spacing and lesion volumes."""

import math

import pytest

from autoseg.core.records import CaseFacts, ChannelFacts, Fingerprint, IntensityFacts, LesionFacts
from autoseg.fingerprint import summarize_lesions

INTENSITIES = IntensityFacts(
    count=100,
    mean=50.0,
    std=10.0,
    minimum=0.0,
    maximum=100.0,
    percentile_00_5=5.0,
    median=50.0,
    percentile_99_5=95.0,
    quantiles=(10.0, 15.0, 20.0, 35.0, 65.0, 80.0, 85.0, 90.0),
)


def make_case(
    name, shape, spacing=(1.0, 1.0, 1.0), *, lesions=(1.0,), channels=1, crop_share=1.0, group=None, site=None
):
    """One case whose lesions have the given volumes in ml; ``crop_share`` of the scan is left by the crop."""
    voxel_ml = math.prod(spacing) / 1000
    return CaseFacts(
        case=name,
        group=group,
        site=site,
        shape=(round(shape[0] / crop_share), *shape[1:]),
        spacing=spacing,
        cropped_shape=shape,
        channels=(ChannelFacts(foreground=INTENSITIES, brain=INTENSITIES),) * channels,
        label_voxels={"lesion": round(sum(lesions) / voxel_ml)},
        lesions=tuple(LesionFacts(label="lesion", volume_ml=v, centre=(0.5, 0.5, 0.5)) for v in lesions),
    )


def make_fingerprint(cases, *, channels=("FLAIR",), regions=None, labels=None):
    """A fingerprint of ready cases."""
    return Fingerprint(
        dataset="Made",
        dataset_key="0",
        channels=channels,
        labels=labels or {"background": 0, "lesion": 1},
        regions=regions or {},
        lesions=summarize_lesions(cases),
        cases=tuple(cases),
        intensities=dict.fromkeys(channels, INTENSITIES),
    )


@pytest.fixture
def case():
    return make_case


@pytest.fixture
def fingerprint():
    """(cases, shape, spacing) -> a fingerprint of that many equal cases."""

    def build(count, shape, spacing=(1.0, 1.0, 1.0), *, channels=("FLAIR",), regions=None, labels=None, **facts):
        cases = [make_case(f"c{i:03}", shape, spacing, channels=len(channels), **facts) for i in range(count)]
        return make_fingerprint(cases, channels=channels, regions=regions, labels=labels)

    return build


@pytest.fixture
def gather():
    return make_fingerprint
