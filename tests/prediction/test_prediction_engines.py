"""Engines: the fastest one with equal logits, and the reason for it."""

import importlib.util

import pytest
import torch
from torch import nn

from autoseg.core.errors import UsageError
from autoseg.core.records import NetworkSettings
from autoseg.networks import build_network
from autoseg.prediction import engines
from autoseg.prediction.engines import check_engine, choose_engine
from autoseg.prediction.openvino_network import OpenvinoNetwork

CPU = torch.device("cpu")
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed (pip install openvino)"
)


class Clock:
    """Says that the n-th call of a network took so many seconds."""

    def __init__(self, *seconds):
        self.readings = [reading for second in seconds for reading in (0.0, second)]

    def __call__(self):
        return self.readings.pop(0)


def unet(dimensions, name="unet"):
    settings = NetworkSettings(
        name=name,
        features=(4, 8),
        kernels=((3,) * dimensions,) * 2,
        strides=((1,) * dimensions, (2,) * dimensions),
        encoder_blocks=(1, 1),
        decoder_blocks=(1,),
        deep_supervision=False,
    )
    return build_network(settings, dimensions=dimensions, input_channels=2, output_channels=3, seed=0).eval()


def tile(dimensions, batch=1):
    return torch.randn(batch, 2, *(8, 12, 16)[-dimensions:], generator=torch.Generator().manual_seed(0))


@pytest.fixture
def without_openvino(monkeypatch):
    monkeypatch.setattr(engines, "is_installed", lambda: False)


def test_nothing_is_tried_where_there_is_little_to_compute():
    network = unet(3)
    choice = choose_engine([network], tile(3), engine="auto", calls=99, clock=Clock())  # an empty clock cannot be read
    assert choice.networks == (network,)
    assert choice.reason == "torch (99 tiles are too few to try other engines)"


@pytest.mark.parametrize("dimensions", [2, 3])
def test_channels_last_is_taken_where_it_is_faster_and_gives_the_same(dimensions, without_openvino):
    network, x = unet(dimensions), tile(dimensions, batch=2)
    with torch.no_grad():
        expected = network(x)[0]
        choice = choose_engine([network], x[:1], engine="auto", calls=1000, clock=Clock(9, 2, 9, 1))
        assert torch.allclose(choice.networks[0](x)[0], expected, atol=1e-5)
    assert choice.networks[0] is not network
    assert choice.reason == "torch, channels last (openvino is not installed)"


def test_what_is_not_faster_is_not_taken(without_openvino):
    network = unet(3)
    choice = choose_engine([network], tile(3), engine="auto", calls=1000, clock=Clock(9, 2, 9, 1.99))
    assert choice.networks == (network,)
    assert choice.reason == "torch (openvino is not installed)"


def test_half_the_threads_are_taken_where_that_is_faster(monkeypatch, without_openvino):
    asked = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    faster = choose_engine([unet(3)], tile(3), engine="torch", calls=1000, clock=Clock(2, 2, 2, 2, 1, 1))
    assert (asked, faster.reason) == ([4], "torch, 4 threads (as requested)")
    slower = choose_engine([unet(3)], tile(3), engine="torch", calls=1000, clock=Clock(2, 2, 2, 2, 3, 3))
    assert (asked, slower.reason) == ([4, 4, 8], "torch (as requested)")


def test_an_engine_that_cannot_be_had_is_an_error(without_openvino):
    check_engine("auto", CPU)
    check_engine("torch", torch.device("cuda"))
    with pytest.raises(UsageError, match="pip install openvino"):
        check_engine("openvino", CPU)
    with pytest.raises(UsageError, match="--engine openvino runs on a CPU"):
        check_engine("openvino", torch.device("cuda"))


@needs_openvino
@pytest.mark.parametrize("name", ["unet", "residual_unet", "segresnet"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_openvino_gives_the_same_for_any_number_of_tiles(dimensions, name):
    network = unet(dimensions, name)
    converted = OpenvinoNetwork(network, tile(dimensions))
    with torch.no_grad():
        for batch in (1, 3, 2, 3):
            x = tile(dimensions, batch)
            (found,) = converted(x)
            assert found.shape == (batch, 3, *x.shape[2:])
            assert torch.allclose(found, network(x)[0], atol=1e-4)


@needs_openvino
def test_openvino_is_taken_for_every_fold_where_it_is_faster():
    networks, x = [unet(3), unet(3)], tile(3)
    choice = choose_engine(networks, x, engine="openvino", calls=1, clock=Clock(9, 2, 9, 1))
    assert [type(network) for network in choice.networks] == [OpenvinoNetwork] * 2
    assert choice.reason == "openvino (1 s per tile, torch 2 s; equal logits up to rounding)"


@needs_openvino
def test_openvino_that_is_slower_is_not_taken():
    network = unet(3)
    choice = choose_engine([network], tile(3), engine="openvino", calls=1, clock=Clock(9, 2, 9, 4, 9, 4))
    assert choice.networks == (network,)
    assert choice.reason == "torch (openvino is not faster: 4 s per tile, torch 2 s)"


@needs_openvino
def test_openvino_that_gives_something_else_is_not_taken(monkeypatch):
    network = unet(3)

    class Wrong(OpenvinoNetwork):
        def forward(self, x):
            return [super().forward(x)[0].flip(2)]

    monkeypatch.setattr(engines, "OpenvinoNetwork", Wrong)
    choice = choose_engine([network], tile(3), engine="openvino", calls=1, clock=Clock(9, 2, 9, 1, 9, 4))
    assert choice.networks == (network,)
    assert "openvino's logits differ by up to" in choice.reason


@needs_openvino
def test_a_network_that_openvino_cannot_compute_stays_with_torch():
    class Odd(nn.Module):
        def forward(self, x):
            return [torch.linalg.eigh(x[..., :8, :8])[1]]

    network = Odd()
    choice = choose_engine([network], tile(3), engine="openvino", calls=1, clock=Clock(9, 2, 9, 4))
    assert choice.networks == (network,)
    assert "openvino cannot compute this network" in choice.reason
