"""A case through a model: what runs out of memory says what helps, and in which type the network computes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from autoseg.core.errors import MemoryShortageError
from autoseg.core.records import (
    AugmentationSettings,
    ChannelNormalization,
    Configuration,
    Grid,
    Image,
    LossSettings,
    NetworkSettings,
    OptimiserSettings,
    Plan,
    PreprocessingSettings,
    SamplingSettings,
    TilingSettings,
    TrainingSettings,
)
from autoseg.model import Model
from autoseg.prediction import case as cases
from autoseg.prediction import mask_restorer, predict_mask, predict_scan, prepare_scan

CPU = torch.device("cpu")
SHAPE = (20, 24, 28)


class Bright(torch.nn.Module):
    """Class 1 where the first channel is bright; notes in which type it was asked to compute."""

    def __init__(self):
        super().__init__()
        self.half = []

    def forward(self, x):
        self.half.append(torch.is_autocast_enabled(x.device.type))
        return [torch.cat([torch.zeros_like(x), x - 1], dim=1)]


@pytest.fixture
def model():
    edge = (1, 1, 1)
    configuration = Configuration(
        dimensions=3,
        preprocessing=PreprocessingSettings(
            spacing=(None, None, None), channels=(ChannelNormalization(inside_mask=True),)
        ),
        patch_size=(8, 8, 8),
        batch_size=1,
        network=NetworkSettings(
            name="unet",
            features=(2, 2),
            kernels=(edge, edge),
            strides=(edge, edge),
            encoder_blocks=(1, 1),
            decoder_blocks=(1,),
            deep_supervision=False,
        ),
        loss=LossSettings(),
        optimiser=OptimiserSettings(),
        training=TrainingSettings(),
        sampling=SamplingSettings(foreground_share=0.3, lesion_share=0),
        augmentation=AugmentationSettings(
            rotation_probability=0, rotation_degrees=(-1, 1), scale_probability=0, mirror_axes=()
        ),
        tiling=TilingSettings(tile_size=(8, 8, 8)),
    )
    plan = Plan(
        dataset="D",
        channels=("FLAIR",),
        labels={"background": 0, "lesion": 1},
        preset="pocket",
        memory_gb=1,
        seed=0,
        recommended="3d",
        reasons={},
        configurations={"3d": configuration},
    )
    return Model(name="D/3d", plan=plan, configuration=configuration, folds=("0",), networks=(Bright(),))


def scan():
    rng = np.random.default_rng(0)
    voxels = np.zeros((1, *SHAPE), np.float32)
    voxels[0, 4:16, 5:20, 6:22] = rng.normal(100, 10, (12, 15, 16))
    return Image(voxels=voxels, grid=Grid(shape=SHAPE, spacing=(1, 1, 1)))


def test_a_scan_comes_back_as_the_network_sees_it(model):
    image = scan()
    mask = predict_scan(model, "a", image, CPU)
    inside = image.voxels[0][image.voxels[0] != 0].astype(np.float64)
    bright = image.voxels[0] > inside.mean() + inside.std() * (1 + 1e-6)
    assert 0.1 < bright.sum() / inside.size < 0.25  # one standard deviation above the mean
    assert np.array_equal(mask.voxels == 1, bright)
    assert mask.grid == image.grid


def test_a_cpu_computes_in_float32_whatever_training_on_a_gpu_was_told(model):
    training = model.configuration.training.model_copy(update={"precision": "bfloat16"})
    told = replace(model, configuration=model.configuration.model_copy(update={"training": training}))
    predict_scan(told, "a", scan(), CPU)
    (network,) = told.networks
    assert network.half and not any(network.half)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    ],
)
def test_a_tile_that_does_not_fit_says_what_helps(model, monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    (prepared,) = prepare_scan(model, "a", scan())
    monkeypatch.setattr(cases, "predict_rows", fail)
    with pytest.raises(MemoryShortageError, match="case a: cpu has too little free memory for a tile of 8x8x8 voxels"):
        predict_mask(model, prepared, CPU)


@pytest.mark.parametrize(("zeros", "warned"), [(0, True), (0.5, False)])
def test_air_around_a_head_is_warned_of_where_the_training_scans_had_none(model, caplog, zeros, warned):
    image = scan()
    voxels = np.where(image.voxels == 0, 1, image.voxels)
    voxels[:, : int(zeros * SHAPE[0])] = 0
    cases.warn_of_skull(model, "p7", replace(image, voxels=voxels))
    assert ("case p7: 100 % of its voxels are not zero" in caplog.text) == warned
    for update in ({"channels": (ChannelNormalization(inside_mask=False),)}, {"region": "head"}):
        preprocessing = model.configuration.preprocessing.model_copy(update=update)
        configuration = model.configuration.model_copy(update={"preprocessing": preprocessing})
        caplog.clear()
        cases.warn_of_skull(replace(model, configuration=configuration), "p7", replace(image, voxels=voxels))
        assert not caplog.text


def test_other_errors_of_a_network_are_bugs_and_stay_what_they_are(model, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("shapes do not fit")

    (prepared,) = prepare_scan(model, "a", scan())
    monkeypatch.setattr(cases, "predict_rows", fail)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        predict_mask(model, prepared, CPU)


def test_probabilities_that_do_not_fit_are_refused_before_anything_is_computed(model, monkeypatch):
    (prepared,) = prepare_scan(model, "a", scan())
    needed = 2 * np.prod(SHAPE) * 2
    monkeypatch.setattr(cases, "free_bytes", lambda device: needed)  # only four fifths of it may be taken
    mask_restorer(model, prepared.placement)
    with pytest.raises(MemoryShortageError, match="omit --probabilities"):
        mask_restorer(model, prepared.placement, probabilities=True)
