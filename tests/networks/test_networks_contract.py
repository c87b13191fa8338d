"""Every network in the table keeps the contract, in every dimension it exists for."""

import copy
import subprocess
import sys

import pytest
import torch

from autoseg.core.errors import PlanError, UsageError
from autoseg.core.records import NetworkSettings
from autoseg.networks import NETWORKS, build_network, fit_settings, network_traits
from autoseg.networks.traits import check_settings

CONVOLUTIONAL = (
    "unet", "residual_unet", "attention_unet", "segresnet", "dynunet", "ratlesnetv2", "inception_unet", "aspp_net",
    "pyramid_net",
)  # fmt: skip
NETWORKS_IN_2D_AND_3D = [(name, dimensions) for name in NETWORKS for dimensions in network_traits(name).dimensions]
ON_ENCODERS = tuple(name for name in NETWORKS if network_traits(name).fixed is not None)
PLANNED = tuple(name for name in NETWORKS if name not in ON_ENCODERS)


def patch(dimensions=3, name="unet"):
    return (32, 64) if name in ON_ENCODERS else (4, 8, 12)[-dimensions:]


def settings(name="unet", dimensions=3, **changes):
    values = {
        "name": name,
        "features": (4, 6, 8),
        "kernels": ((1, 3, 3)[-dimensions:], (3,) * dimensions, (3,) * dimensions),
        "strides": ((1,) * dimensions, (1, 2, 2)[-dimensions:], (2,) * dimensions),
        "encoder_blocks": (1, 2, 2),
        "decoder_blocks": (1, 2),
    }
    values |= changes
    values["features"] = (
        network_traits(name).usual_features(values["features"]) if name == "ratlesnetv2" else (values["features"])
    )
    if name in ON_ENCODERS:  # the smallest that there is
        values["options"] = {"encoder": "tu-test_efficientnet", **values.get("options", {})}
    return NetworkSettings(**values)


def build(name="unet", dimensions=3, seed=1, input_channels=2, **changes):
    if name == "unetr":
        changes["options"] = {"layers": 3, **changes.get("options", {})}
    made = fit_settings(settings(name, dimensions, **changes), dimensions=dimensions, patch=patch(dimensions, name))
    return build_network(made, dimensions=dimensions, input_channels=input_channels, output_channels=3, seed=seed)


def image(dimensions, batch=2, channels=2, name="unet"):
    return torch.randn(batch, channels, *patch(dimensions, name), generator=torch.Generator().manual_seed(3))


def seen(outputs):
    """One number that every output has a part in."""
    return sum(output.square().mean() for output in outputs)


def as_predicting(net, name):
    """In evaluation mode where training looks at the whole batch, or leaves some of it out at random."""
    return net.eval() if network_traits(name).normalises_batch else net


@pytest.fixture(params=NETWORKS_IN_2D_AND_3D, ids=str)
def built(request):
    return build(*request.param), *request.param


def test_logits_come_finest_first_one_per_decoder_stage(built):
    net, name, dimensions = built
    shapes = [tuple(output.shape) for output in net(image(dimensions, name=name))]
    halves = {2: [(8, 12), (4, 6)], 3: [(4, 8, 12), (4, 4, 6)]}[dimensions]
    if not network_traits(name).supports_deep_supervision:
        halves = [patch(dimensions, name)]
    assert shapes == [(2, 3, *size) for size in halves]


def test_deep_supervision_switched_off_leaves_the_finest_logits_as_they_were(built):
    net, name, dimensions = built
    net = as_predicting(net, name)
    deep = net(image(dimensions, name=name))
    net.deep_supervision = False
    alone = net(image(dimensions, name=name))
    assert len(alone) == 1
    assert torch.equal(alone[0], deep[0])


def test_weights_fit_with_and_without_deep_supervision(built):
    net, name, dimensions = built
    assert build(name, dimensions, deep_supervision=False).state_dict().keys() == net.state_dict().keys()


def test_switched_off_heads_are_not_computed():
    net = build()
    called = []
    for head in net.decoder.seg_layers:
        head.register_forward_hook(lambda *_, h=head: called.append(h))
    net.deep_supervision = False
    net(image(3))
    assert called == [net.decoder.seg_layers[-1]]


def test_same_seed_same_weights_and_the_global_stream_is_left_alone(built):
    net, name, dimensions = built
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    again, other = build(name, dimensions), build(name, dimensions, seed=2)
    assert torch.equal(before, torch.random.get_rng_state())
    mine, same, different = (n.state_dict() for n in (net, again, other))
    assert all(torch.equal(mine[key], same[key]) for key in mine)
    drawn = [key for key in mine if mine[key].ndim > 1 and mine[key].is_floating_point()]
    assert not any(torch.equal(mine[key], different[key]) for key in drawn)


def test_weights_go_from_one_network_into_another(built):
    net, name, dimensions = built
    other = build(name, dimensions, seed=2)
    other.load_state_dict(net.state_dict())
    x = image(dimensions, name=name)
    assert torch.equal(as_predicting(other, name)(x)[0], as_predicting(net, name)(x)[0])


def test_every_tensor_has_one_name(built):
    state = built[0].state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)


def test_batches_are_normalised_where_it_is_said_and_nowhere_else(built):
    net, name, _ = built
    norms = (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)
    assert any(isinstance(module, norms) for module in net.modules()) == network_traits(name).normalises_batch


def test_the_gradient_reaches_every_weight(built):
    net, name, dimensions = built
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():  # some branches begin at 0 on purpose
        for weight in net.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.1)
    seen(as_predicting(net, name)(image(dimensions, name=name))).backward()
    gradients = {name: weight.grad for name, weight in net.named_parameters()}
    assert not [name for name, gradient in gradients.items() if gradient is None]
    # A bias before a norm has no effect, so vectors are left out.
    assert not [name for name, gradient in gradients.items() if gradient.ndim > 1 and not gradient.any()]


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize(("name", "dimensions"), NETWORKS_IN_2D_AND_3D)
def test_any_number_of_channels_goes_in(name, dimensions, channels):
    net = build(name, dimensions, input_channels=channels)
    assert net(image(dimensions, channels=channels, name=name))[0].shape[1] == 3


def test_a_sample_is_judged_without_its_neighbours(built):
    net, name, dimensions = built
    net, x = as_predicting(net, name), image(dimensions, name=name)
    torch.testing.assert_close(net(x)[0][:1], net(x[:1])[0], rtol=1e-4, atol=1e-4)


def test_evaluation_computes_what_training_did(built):
    net, name, dimensions = built
    if network_traits(name).normalises_batch:  # by design it does not, until the running statistics are the batch's
        assert not torch.equal(net(image(dimensions, name=name))[0], net.eval()(image(dimensions, name=name))[0])
        return
    trained = net(image(dimensions))[0]
    assert torch.equal(net.eval()(image(dimensions))[0], trained)


def test_checkpointing_changes_neither_names_nor_logits_nor_gradients(built):
    net, name, dimensions = built
    if not network_traits(name).supports_checkpointing:
        made = fit_settings(settings(name, dimensions), dimensions=dimensions, patch=patch(dimensions, name))
        asked = made.model_copy(update={"options": {**made.options, "checkpointing": True}})
        with pytest.raises(PlanError, match="unknown option 'checkpointing' of network"):
            check_settings(asked, network_traits(name), dimensions)
        return
    slim = build(name, dimensions, options={"checkpointing": True})
    assert slim.state_dict().keys() == net.state_dict().keys()
    for each in (net, slim):
        seen(each(image(dimensions))).backward()
    assert torch.equal(net(image(dimensions))[0], slim(image(dimensions))[0])
    for ours, theirs in zip(net.parameters(), slim.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    for ours, theirs in zip(net.buffers(), slim.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_copy_is_a_network_of_its_own(built):
    net, name, dimensions = built
    other = copy.deepcopy(net)
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
    assert net(image(dimensions, name=name))[0].any()
    assert not other(image(dimensions, name=name))[0].any()


def test_mixed_precision_gives_logits(built):
    net, name, dimensions = built
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = net(image(dimensions, name=name))[0]
    assert half.dtype == torch.bfloat16
    assert torch.isfinite(half).all()


def test_weights_are_drawn_with_the_variance_of_he():
    net = build(features=(32, 32, 32), kernels=((3, 3, 3),) * 3)
    weight = dict(net.named_parameters())["encoder.stages.1.0.convs.1.all_modules.0.weight"]
    # Variance 2 / ((1 + 0.01^2) * fan_in), fan_in = 32 * 27 = 864; 27648 draws: standard error 0.4 %.
    assert weight.std().item() == pytest.approx((2 / (1.0001 * 864)) ** 0.5, rel=0.03)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_biases_start_at_zero(name):
    assert all(not p.any() for key, p in build(name).named_parameters() if key.endswith("bias"))


def test_residual_blocks_start_as_the_identity():
    net = build("residual_unet")
    norms = [m.conv2.all_modules[-1] for m in net.modules() if hasattr(m, "conv2")]
    assert len(norms) == 5
    assert all(not norm.weight.any() for norm in norms)


def test_names_are_those_of_nnunet_checkpoints():
    names = dict(build().named_parameters())
    assert "encoder.stages.0.0.convs.0.all_modules.0.weight" in names
    assert "decoder.seg_layers.0.weight" in names


def test_an_attention_unet_takes_a_unets_weights():
    unet, attention = build(), build("attention_unet")
    missing, unexpected = attention.load_state_dict(unet.state_dict(), strict=False)
    assert not unexpected
    assert {key.split(".")[0] for key in missing} == {"gates"}


def test_a_closed_gate_stops_the_skip():
    gate = build("attention_unet").gates[0]
    torch.nn.init.constant_(gate.share[1].bias, -100.0)
    x = torch.randn(1, 6, 4, 4, 6)
    assert gate(x, x).abs().max() < 1e-6


def test_norm_is_per_instance_with_weights_and_small_eps():
    net = build()
    norm = net.encoder.stages[0][0].convs[0].all_modules[1]
    assert isinstance(norm, torch.nn.InstanceNorm3d)
    assert norm.affine
    assert norm.eps == 1e-5


def test_group_norm_keeps_half_precision_half():
    norm = build("segresnet").down_layers[0][1].norm1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert norm(torch.randn(1, 4, 2, 2, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_decoder_blocks_count_from_the_finest_stage():
    net = build()  # decoder_blocks (1, 2): one convolution at full size
    assert [len(stage.convs) for stage in net.decoder.stages] == [2, 1]


def test_no_vision_package_is_pulled_in_where_none_is_needed():
    code = (
        "import sys; from autoseg.networks import NETWORKS, network_traits\n"
        "[network_traits(name) for name in NETWORKS]\n"
        "assert not {'timm', 'torchvision', 'segmentation_models_pytorch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": (4,), "kernels": ((3, 3, 3),), "strides": ((1, 1, 1),), "encoder_blocks": (1,),
          "decoder_blocks": ()}, "needs at least 2 stages, but features has 1"),
        ({"kernels": ((3, 3, 3), (3, 4, 3), (3, 3, 3))}, r"kernel \(3, 4, 3\); use odd numbers"),
        ({"strides": ((2, 1, 1), (1, 2, 2), (2, 2, 2))}, "in its first stage; they must all be 1"),
        ({"kernels": ((3, 3), (3, 3, 3), (3, 3, 3))}, "input has 3 spatial axes"),
        ({"options": {"window": 7}},
         "unknown option 'window' of network 'unet'; choose from: checkpointing, dropout, norm; "),
    ],
)  # fmt: skip
def test_settings_that_no_network_can_have_are_named(changes, message):
    with pytest.raises(PlanError, match=message):
        build_network(settings(**changes), dimensions=3, input_channels=2, output_channels=3, seed=1)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"unknown network 'vnet' \(did you mean .*; choose from: unet, residual_unet"):
        build("vnet")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(NETWORKS.entries, "lost", "not_installed_here.network:LOST")
    with pytest.raises(
        UsageError, match=r"network 'lost' needs the package not_installed_here.*pip install not_installed_here"
    ):
        network_traits("lost")
