"""A real step, measured: what the estimator predicts, and what is said when there is too little memory."""

import pytest
import torch

from autoseg.core.errors import MemoryShortageError
from autoseg.core.records import LossSettings, NetworkSettings
from autoseg.losses import build_loss
from autoseg.networks import build_network
from autoseg.networks.memory import estimate_training_memory
from autoseg.training import NoiseBatches, probe_step

NETWORK = NetworkSettings(
    name="unet", features=(8, 16, 32), kernels=((3, 3, 3),) * 3, strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)),
    encoder_blocks=(2, 2, 2), decoder_blocks=(2, 2),
)  # fmt: skip
WEIGHTS = (0.6667, 0.3333)
CPU = torch.device("cpu")


@pytest.fixture
def configuration(bench):
    loss = LossSettings(deep_supervision_weights=WEIGHTS)
    made = bench.configured({"name": "sgd"})
    tiling = made.tiling.model_copy(update={"tile_size": (16, 24, 32)})
    changes = {"network": NETWORK, "patch_size": (16, 24, 32), "tiling": tiling, "loss": loss, "batch_size": 2}
    return made.model_copy(update=changes)


def probe(configuration):
    network = build_network(configuration.network, dimensions=3, input_channels=2, output_channels=3, seed=0)
    batches = NoiseBatches(configuration, 2, 3)
    return probe_step(network, configuration, batches, loss=build_loss(configuration.loss), device=CPU)


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_real_step_takes_what_was_predicted(configuration, accumulation, checkpointing):
    network = NETWORK.model_copy(update={"options": {"checkpointing": checkpointing}})
    training = configuration.training.model_copy(update={"accumulation": accumulation})
    configuration = configuration.model_copy(update={"network": network, "training": training})
    predicted = estimate_training_memory(
        network,
        (2 // accumulation, 2, *configuration.patch_size),
        output_channels=3,
        optimiser="sgd",
        half=False,
        accumulated=accumulation > 1,
    )
    assert probe(configuration) == pytest.approx(predicted.total - predicted.workspace, rel=0.1)


def test_noise_is_the_same_for_the_same_step_and_fits_the_configuration(configuration):
    batches = NoiseBatches(configuration, 2, 3)
    image, target = batches.batch(1)
    assert image.shape == (2, 2, 16, 24, 32)
    assert target.shape == (2, 16, 24, 32)
    assert set(target.unique().tolist()) == {0, 1, 2}
    assert torch.equal(batches.batch(1)[0], image)
    assert not torch.equal(batches.batch(2)[0], image)


def test_too_little_memory_is_an_error_of_ours(configuration, monkeypatch):
    def refuse(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.functional, "conv3d", refuse)
    monkeypatch.setattr(torch.nn.Conv3d, "forward", refuse)
    with pytest.raises(MemoryShortageError, match=r"ran out of memory at step 1 with 2 samples"):
        probe(configuration)
