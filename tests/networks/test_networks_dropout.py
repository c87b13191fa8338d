"""The option ``dropout`` of the U-Nets that are made of the same building blocks."""

import pytest
import torch
from torch import nn

from autoseg.core.errors import PlanError
from autoseg.core.records import NetworkSettings
from autoseg.networks import build_network

NAMES = ("unet", "residual_unet", "attention_unet")
IMAGE = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def make(name, **options):
    settings = NetworkSettings(
        name=name,
        features=(4, 8),
        kernels=((3, 3), (3, 3)),
        strides=((1, 1), (2, 2)),
        encoder_blocks=(2, 2),
        decoder_blocks=(2,),
        options=options,
    )
    network = build_network(settings, dimensions=2, input_channels=1, output_channels=2, seed=3)
    for module in network.modules():  # a residual block starts as nothing, which would hide what is hidden in it
        if isinstance(module, nn.InstanceNorm2d):
            nn.init.ones_(module.weight)
    return network


def draw(network, seed):
    torch.manual_seed(seed)
    return network(IMAGE)[0]


@pytest.mark.parametrize("name", NAMES)
def test_training_draws_by_the_seed_and_prediction_hides_nothing(name):
    network, plain = make(name, dropout=0.5), make(name)
    assert torch.equal(draw(network.train(), 1), draw(network, 1))
    assert not torch.equal(draw(network, 1), draw(network, 2))
    network.eval(), plain.eval()
    assert torch.equal(draw(network, 1), draw(plain, 2))


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_are_those_of_the_network_without(name):
    with_it, without = make(name, dropout=0.2).state_dict(), make(name).state_dict()
    assert with_it.keys() == without.keys()
    assert all(torch.equal(with_it[key], without[key]) for key in without)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_computed_again_hides_the_same(name):
    gradients = []
    for checkpointing in (False, True):
        network = make(name, dropout=0.5, checkpointing=checkpointing).train()
        draw(network, 1).square().mean().backward()
        gradients.append([p.grad for p in network.parameters() if p.grad is not None])
    plain, again = gradients
    assert plain
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(plain, again, strict=True))


@pytest.mark.parametrize("share", [1, -0.1, "0.2", True, None])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(PlanError, match="use a share from 0 to below 1"):
        make("unet", dropout=share)
