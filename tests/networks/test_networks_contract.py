"""Every network in the table keeps the contract, in 2D and 3D."""

import sys

import pytest
import torch

from autoseg.core.errors import PlanError, UsageError
from autoseg.core.records import NetworkSettings
from autoseg.networks import NETWORKS, build_network


def settings(name="unet", dimensions=3, **changes):
    values = {
        "name": name,
        "features": (4, 6, 8),
        "kernels": ((1, 3, 3)[-dimensions:], (3,) * dimensions, (3,) * dimensions),
        "strides": ((1,) * dimensions, (1, 2, 2)[-dimensions:], (2,) * dimensions),
        "encoder_blocks": (1, 2, 2),
        "decoder_blocks": (1, 2),
    }
    return NetworkSettings(**{**values, **changes})


def build(name="unet", dimensions=3, seed=1, **changes):
    made = settings(name, dimensions, **changes)
    return build_network(made, dimensions=dimensions, input_channels=2, output_channels=3, seed=seed)


@pytest.fixture(params=[(name, dimensions) for name in NETWORKS for dimensions in (2, 3)], ids=str)
def network(request):
    return build(*request.param), request.param[1]


def test_logits_come_finest_first_one_per_decoder_stage(network):
    net, dimensions = network
    logits = net(torch.randn(2, 2, *(4, 8, 12)[-dimensions:]))
    shapes = [tuple(output.shape) for output in logits]
    halves = {2: [(8, 12), (4, 6)], 3: [(4, 8, 12), (4, 4, 6)]}[dimensions]
    assert shapes == [(2, 3, *size) for size in halves]


def test_deep_supervision_switched_off_leaves_the_finest_logits_as_they_were(network):
    net, dimensions = network
    x = torch.randn(1, 2, *(4, 8, 12)[-dimensions:])
    deep = net(x)
    net.deep_supervision = False
    alone = net(x)
    assert len(alone) == 1
    assert torch.equal(alone[0], deep[0])


def test_switched_off_heads_are_not_computed():
    net = build()
    called = []
    for head in net.decoder.seg_layers:
        head.register_forward_hook(lambda *_, h=head: called.append(h))
    net.deep_supervision = False
    net(torch.randn(1, 2, 4, 8, 8))
    assert called == [net.decoder.seg_layers[-1]]


def test_same_seed_same_weights_and_the_global_stream_is_left_alone(network):
    net, dimensions = network
    name = "residual_unet" if hasattr(net.encoder, "stem") else "unet"
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    again, other = build(name, dimensions), build(name, dimensions, seed=2)
    assert torch.equal(before, torch.random.get_rng_state())
    mine, same, different = (n.state_dict() for n in (net, again, other))
    assert all(torch.equal(mine[key], same[key]) for key in mine)
    first = next(iter(mine))
    assert not torch.equal(mine[first], different[first])


def test_every_tensor_has_one_name(network):
    net, _ = network
    state = net.state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)


def test_weights_are_drawn_with_the_variance_of_he():
    net = build(features=(32, 32, 32), kernels=((3, 3, 3),) * 3)
    weight = dict(net.named_parameters())["encoder.stages.1.0.convs.1.all_modules.0.weight"]
    # Variance 2 / ((1 + 0.01^2) * fan_in), fan_in = 32 * 27 = 864; 27648 draws: standard error 0.4 %.
    assert weight.std().item() == pytest.approx((2 / (1.0001 * 864)) ** 0.5, rel=0.03)


def test_biases_start_at_zero(network):
    net, _ = network
    assert all(not p.any() for name, p in net.named_parameters() if name.endswith("bias"))


def test_residual_blocks_start_as_the_identity():
    net = build("residual_unet")
    norms = [m.conv2.all_modules[-1] for m in net.modules() if hasattr(m, "conv2")]
    assert len(norms) == 5
    assert all(not norm.weight.any() for norm in norms)


def test_names_are_those_of_nnunet_checkpoints():
    names = dict(build().named_parameters())
    assert "encoder.stages.0.0.convs.0.all_modules.0.weight" in names
    assert "decoder.seg_layers.0.weight" in names


def test_norm_is_per_instance_with_weights_and_small_eps():
    net = build()
    norm = net.encoder.stages[0][0].convs[0].all_modules[1]
    assert isinstance(norm, torch.nn.InstanceNorm3d)
    assert norm.affine
    assert norm.eps == 1e-5


def test_decoder_blocks_count_from_the_finest_stage():
    net = build()  # decoder_blocks (1, 2): one convolution at full size
    assert [len(stage.convs) for stage in net.decoder.stages] == [2, 1]


def test_no_vision_package_is_pulled_in():
    build("residual_unet")
    assert not {"timm", "torchvision"} & set(sys.modules)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": (4,), "kernels": ((3, 3, 3),), "strides": ((1, 1, 1),), "encoder_blocks": (1,),
          "decoder_blocks": ()}, "has one stage"),
        ({"kernels": ((3, 3, 3), (3, 4, 3), (3, 3, 3))}, r"kernel \(3, 4, 3\); use odd numbers"),
        ({"strides": ((2, 1, 1), (1, 2, 2), (2, 2, 2))}, "in its first stage; they must all be 1"),
        ({"kernels": ((3, 3), (3, 3, 3), (3, 3, 3))}, "input has 3 spatial axes"),
    ],
)  # fmt: skip
def test_settings_that_no_network_can_have_are_named(changes, message):
    with pytest.raises(PlanError, match=message):
        build(**changes)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"no network 'vnet'; known are: unet, residual_unet"):
        build("vnet")
