"""Settings that a person may edit wrongly."""

import pytest
from pydantic import ValidationError

from autoseg.core.records import AugmentationSettings, NetworkSettings, SamplingSettings, TilingSettings


def settings(**changes):
    fields = {"rotation_probability": 0.2, "rotation_degrees": (-30, 30), "scale_probability": 0.2, "mirror_axes": ()}
    return AugmentationSettings(**{**fields, **changes})


@pytest.mark.parametrize(
    "name",
    ["rotation_degrees", "scale", "noise_variance", "blur_sigma", "brightness", "contrast", "low_resolution", "gamma",
     "mask_shape_radius"],
)  # fmt: skip
def test_a_reversed_range_is_refused(name):
    low, high = getattr(settings(), name)
    with pytest.raises(ValidationError, match=rf"{name} must be \[smallest, largest\], not \[{high:g}, {low:g}\]"):
        settings(**{name: (high, low)})
    assert getattr(settings(**{name: (high, high)}), name) == (high, high)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": (0, 1)}, r"scale must begin above 0, not \[0, 1\]"),
        ({"gamma": (-1, 1)}, r"gamma must begin above 0, not \[-1, 1\]"),
        ({"noise_variance": (-0.1, 0.1)}, r"noise_variance must begin at 0 or above"),
        ({"low_resolution": (0.5, 2)}, r"low_resolution must end at 1 or below, not \[0.5, 2\]"),
        ({"device": "cuda"}, "'auto', 'cpu' or 'gpu'"),
    ],
)
def test_numbers_without_meaning_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        settings(**change)


def test_a_plan_without_the_newer_keys_reads_as_before():
    assert settings().device == "auto"
    assert SamplingSettings(foreground_share=0.3, lesion_share=0.0).empty_case_share is None


def network(**changes):
    fields = {"name": "unet", "features": (8, 16), "kernels": ((3,), (3,)), "strides": ((1,), (2,))}
    return NetworkSettings(**{**fields, "encoder_blocks": (2, 2), "decoder_blocks": (2,), **changes})


@pytest.mark.parametrize(
    "change",
    [
        {"features": (10**9, 16)},
        {"encoder_blocks": (2, 10**7)},
        {"decoder_blocks": (10**7,)},
        {"kernels": ((3,), (10**6,))},
        {"features": (8,) * 1000},
    ],
)
def test_sizes_that_no_network_has_are_refused_when_they_are_read(change):
    assert network().features == (8, 16)
    with pytest.raises(ValidationError, match=r"less than or equal to|at most 20 items"):
        network(**change)


def test_tiles_do_not_lie_closer_than_a_twentieth():
    with pytest.raises(ValidationError, match="greater than or equal to"):
        TilingSettings(tile_size=(8, 8), step=1e-9)
