"""Every network on the shelf says what is its encoder; input and head are found."""

import pytest
from torch import nn

from autoseg.core.errors import PlanError
from autoseg.core.records import NetworkSettings
from autoseg.networks import NETWORKS, build_network, find_parts, fit_settings, network_traits


def settings(name):
    traits = network_traits(name)
    dimensions = 3 if 3 in traits.dimensions else 2
    ones, twos, threes = ((n,) * dimensions for n in (1, 2, 3))
    planned = NetworkSettings(
        name=name, features=traits.usual_features((8, 16, 32)), kernels=(threes,) * 3, strides=(ones, twos, twos),
        encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1),
    )  # fmt: skip
    return fit_settings(planned, dimensions=dimensions, patch=(64,) * dimensions), dimensions


@pytest.mark.parametrize("name", NETWORKS.entries)
def test_every_network_has_an_encoder_a_decoder_and_a_head(name):
    planned, dimensions = settings(name)
    parts = find_parts(planned, dimensions=dimensions, input_channels=2, output_channels=3)
    assert set(parts.of.values()) == {"encoder", "decoder", "head"}
    assert parts.inputs
    assert set(parts.outputs) == {tensor for tensor, part in parts.of.items() if part == "head"}
    assert not set(parts.inputs) & set(parts.outputs)


def test_the_parts_name_every_tensor_of_the_built_network():
    planned, dimensions = settings("unet")
    counts = {"dimensions": dimensions, "input_channels": 2, "output_channels": 3}
    parts = find_parts(planned, **counts)
    assert set(parts.of) == set(build_network(planned, seed=0, **counts).state_dict())
    assert parts.inputs == {"encoder.stages.0.0.convs.0.all_modules.0.weight": 1}
    assert {name.rpartition(".")[0] for name in parts.outputs} == {"decoder.seg_layers.0", "decoder.seg_layers.1"}


def test_a_network_that_does_not_say_what_its_encoder_is(monkeypatch):
    planned, dimensions = settings("unet")
    monkeypatch.setattr(
        "autoseg.networks.parts.build_network",
        lambda *_, input_channels, output_channels, **__: nn.Conv2d(input_channels, output_channels, 1),
    )
    with pytest.raises(PlanError, match="'unet' does not declare its encoder"):
        find_parts(planned, dimensions=dimensions, input_channels=2, output_channels=3)
