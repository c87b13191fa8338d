"""Tiny prepared cases, and a configuration that does nothing at random until told to."""

import numpy as np
import pytest

from autoseg.core.records import (
    AugmentationSettings,
    ChannelNormalization,
    Configuration,
    Grid,
    Lesions,
    LossSettings,
    NetworkSettings,
    OptimiserSettings,
    Placement,
    PreparedCase,
    PreprocessingSettings,
    SamplingSettings,
    TilingSettings,
    TrainingSettings,
)


def still(**changes) -> AugmentationSettings:
    """Settings with every probability 0."""
    fields = AugmentationSettings.model_fields
    zeros = {name: 0.0 for name in fields if name.endswith("_probability")}
    return AugmentationSettings(**{**zeros, "rotation_degrees": (-30, 30), "mirror_axes": (), **changes})


def everything(**changes) -> AugmentationSettings:
    """Settings with every probability 1."""
    fields = AugmentationSettings.model_fields
    ones = {name: 1.0 for name in fields if name.endswith("_probability")}
    fixed = {"rotation_degrees": (-30, 30), "mirror_axes": (0, 1), "substitutions": ((0, 0),)}
    return AugmentationSettings(**{**ones, **fixed, **changes})


def make_lesions(label: np.ndarray, boxes: list[tuple[slice, ...]]) -> Lesions:
    """Lesions from boxes that hold one each."""
    points, labels, sizes = [], [], []
    for box in boxes:
        where = np.argwhere(label[box] != 0) + [part.start or 0 for part in box]
        points.append(where)
        labels.append(label[tuple(where[0])])
        sizes.append(len(where))
    start = np.cumsum([0, *sizes])
    return Lesions(
        label=np.array(labels, np.int16),
        size=np.array(sizes, np.int64),
        start=start.astype(np.int64),
        points=np.concatenate(points).astype(np.int32) if points else np.zeros((0, 3), np.int32),
    )


def prepared(case_id: str, *, seed: int = 0, channels: int = 2, shape=(10, 20, 30), empty: bool = False):
    """A noise volume with a huge lesion of label 1 and a tiny one of label 1 far away."""
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, np.int16)
    boxes = [] if empty else [np.s_[2:8, 4:14, 2:12], np.s_[1:2, 17:18, 27:28]]
    for box in boxes:
        label[box] = 1
    grid = Grid(shape=shape, spacing=(3.0, 1.0, 1.0))
    crop = tuple((0, n) for n in shape)
    place = Placement(
        grid=grid,
        transpose=(0, 1, 2),
        flips=(False, False, False),
        crop=crop,
        cropped_spacing=grid.spacing,
        shape=shape,
    )
    return PreparedCase(
        id=case_id,
        image=rng.standard_normal((channels, *shape), dtype=np.float32),
        label=label,
        placement=place,
        lesions=make_lesions(label, boxes),
    )


def configured(*, patch=(4, 8, 12), batch_size=2, channels=2, augmentation=None, sampling=None, inside_mask=False):
    """A configuration for patches of that shape."""
    ones = (1,) * len(patch)
    return Configuration(
        dimensions=len(patch),
        preprocessing=PreprocessingSettings(
            spacing=(3.0, 1.0, 1.0), channels=(ChannelNormalization(inside_mask=inside_mask),) * channels
        ),
        patch_size=patch,
        batch_size=batch_size,
        network=NetworkSettings(
            name="any", features=(2, 2), kernels=(ones, ones), strides=(ones, ones), encoder_blocks=(1, 1),
            decoder_blocks=(1,), deep_supervision=False,
        ),
        loss=LossSettings(),
        optimiser=OptimiserSettings(),
        training=TrainingSettings(),
        sampling=sampling or SamplingSettings(foreground_share=0.34, lesion_share=0.33),
        augmentation=augmentation or still(),
        tiling=TilingSettings(tile_size=patch),
    )  # fmt: skip


@pytest.fixture
def make():
    """The builders above, in one place."""

    class Make:
        pass

    for function in (still, everything, make_lesions, prepared, configured):
        setattr(Make, function.__name__, staticmethod(function))
    return Make
