"""The option ``norm`` of the U-Nets that are made of the same building blocks."""

import pytest
import torch
from torch import nn

from autoseg.core.errors import PlanError
from autoseg.core.records import NetworkSettings
from autoseg.networks import build_network, network_traits, normalises_batch

NAMES = ("unet", "residual_unet", "attention_unet")
KINDS = {
    "instance": (nn.InstanceNorm2d, nn.InstanceNorm3d),
    "batch": (nn.BatchNorm2d, nn.BatchNorm3d),
}


def settings(name, dimensions, **options):
    return NetworkSettings(
        name=name,
        features=(4, 8),
        kernels=((3,) * dimensions,) * 2,
        strides=((1,) * dimensions, (2,) * dimensions),
        encoder_blocks=(2, 2),
        decoder_blocks=(2,),
        options=options,
    )


def make(name, dimensions=2, **options):
    given = settings(name, dimensions, **options)
    return build_network(given, dimensions=dimensions, input_channels=1, output_channels=2, seed=3)


def count(network, kinds):
    return sum(isinstance(module, kinds) for module in network.modules())


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_all_norms_are_of_the_kind(name, dimensions):
    usual, batch = make(name, dimensions), make(name, dimensions, norm="batch")
    assert count(usual, KINDS["batch"]) == count(batch, KINDS["instance"]) == 0
    assert count(batch, KINDS["batch"]) == count(usual, KINDS["instance"]) > 0
    weights = dict(usual.named_parameters())
    assert all(torch.equal(weights[key], value) for key, value in batch.named_parameters())
    assert weights.keys() == dict(batch.named_parameters()).keys()


@pytest.mark.parametrize("name", NAMES)
def test_samples_of_a_batch_are_scaled_together(name):
    image = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    for norm, together in (("instance", False), ("batch", True)):
        network = make(name, norm=norm).train()
        for module in network.modules():  # a residual block starts as nothing
            if isinstance(module, KINDS["instance"] + KINDS["batch"]):
                nn.init.ones_(module.weight)
        both, first = network(image)[0], network(image[:1])[0]
        assert torch.allclose(both[:1], first, atol=1e-5) != together


@pytest.mark.parametrize("name", NAMES)
def test_what_is_computed_again_counts_a_batch_once(name):
    image = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    found = []
    for checkpointing in (False, True):
        network = make(name, norm="batch", checkpointing=checkpointing).train()
        network(image)[0].square().mean().backward()
        found.append({**network.state_dict(), **{f"{k} grad": p.grad for k, p in network.named_parameters()}})
    plain, again = found
    assert all(int(value) == 1 for key, value in again.items() if key.endswith("num_batches_tracked"))
    assert all(torch.equal(again[key], plain[key]) for key in plain if "running" in key)
    assert all(torch.allclose(again[k], plain[k], atol=1e-6) for k in plain if plain[k] is not None)


def test_parts_of_a_batch_would_be_another_training():
    traits = network_traits("unet")
    assert normalises_batch(settings("unet", 2, norm="batch"), traits)
    assert not normalises_batch(settings("unet", 2), traits)
    assert normalises_batch(settings("ratlesnetv2", 2), network_traits("ratlesnetv2"))


@pytest.mark.parametrize("norm", ["layer", None, 2, ["batch"]])
def test_another_norm_is_refused(norm):
    with pytest.raises(PlanError, match="choose from: instance, batch"):
        make("unet", norm=norm)
