"""RatLesNetv2 against its published formula, written down here a second time, and its weights in our axis order."""

import pytest
import torch
from torch.nn import functional

from autoseg.core.errors import ModelError, PlanError
from autoseg.core.records import NetworkSettings
from autoseg.networks import build_network, load_initial_weights
from autoseg.networks.ratlesnetv2 import turn_published


def settings(width=32, weights=None):
    return NetworkSettings(
        name="ratlesnetv2",
        features=(width,) * 4,
        kernels=((3, 3, 3),) * 4,
        strides=((1, 1, 1), *((2, 2, 2),) * 3),
        encoder_blocks=(1,) * 4,
        decoder_blocks=(1,) * 3,
        deep_supervision=False,
        options={} if weights is None else {"weights": str(weights)},
    )


def build(planned, channels=1, outputs=2):
    return build_network(planned, dimensions=3, input_channels=channels, output_channels=outputs, seed=1)


def published(width, seed=0):
    """Weights as the authors' files name them, in their axis order, drawn anew."""
    generator = torch.Generator().manual_seed(seed)
    weights = build(settings(width)).state_dict()
    for name, tensor in weights.items():
        if tensor.is_floating_point():
            weights[name] = torch.rand(tensor.shape, generator=generator) + 0.1 * ("running_var" in name)
            weights[name] -= 0.5 * ("running_var" not in name)
    return weights


def formula(w, x):
    """Name -> what comes out of it; ``x`` (B,C,slices,first,second stored axis), in evaluation mode."""

    def step(name, place, y):
        y = functional.relu(y)
        mean, var, scale, shift = (
            w[f"{name}.seq.{place}.{part}"][:, None, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        y = (y - mean) / torch.sqrt(var + 1e-5) * scale + shift
        kernel = w[f"{name}.seq.{place + 1}.weight"]
        return functional.conv3d(y, kernel, w[f"{name}.seq.{place + 1}.bias"], padding=kernel.shape[2] // 2)

    def block(name, y):
        return y + step(name, 4, step(name, 1, y))

    out = {"conv1": functional.conv3d(x, w["conv1.weight"], w["conv1.bias"])}
    y = out["conv1"]
    for level in (1, 2, 3):
        out[f"block{level}"] = block(f"block{level}", y)
        y = out[f"mp{level}"] = functional.max_pool3d(out[f"block{level}"], 2, ceil_mode=True)
    for level, skip in ((1, "block3"), (2, "block2"), (3, "block1")):
        y = out[f"bottleneck{level}"] = step(f"bottleneck{level}", 1, y)
        y = functional.interpolate(y, out[skip].shape[2:], mode="trilinear")
        y = out[f"block{level + 3}"] = block(f"block{level + 3}", torch.cat((y, out[skip]), 1))
    out["bottleneck4"] = step("bottleneck4", 1, y)
    return out


def test_it_has_as_many_parameters_as_published():
    assert sum(weight.numel() for weight in build(settings()).parameters()) == 837_026


def test_every_layer_gives_what_the_published_formula_gives(tmp_path):
    weights = published(8)
    torch.save(weights, tmp_path / "RatLesNetv2.model")
    planned = settings(8, tmp_path / "RatLesNetv2.model")
    net = build(planned)
    assert load_initial_weights(net, planned).startswith("all ")
    scan = torch.randn(1, 1, 9, 21, 14)  # (slices, first, second), which pooling does not divide
    wanted = formula(weights, scan)
    found = {}
    for name, module in net.named_children():
        module.register_forward_hook(lambda m, i, out, name=name: found.update({name: out}))
    with torch.no_grad():
        logits = net.eval()(scan.transpose(3, 4))[0]  # ours: (Z,Y,X)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name].transpose(3, 4), tensor, rtol=1e-4, atol=1e-4, msg=name)
    torch.testing.assert_close(logits.transpose(3, 4), wanted["bottleneck4"], rtol=1e-4, atol=1e-4)


def test_only_the_last_two_axes_of_kernels_change_places():
    turned = turn_published({"kernel": torch.arange(24.0).reshape(1, 1, 2, 3, 4), "bias": torch.arange(3.0)})
    assert turned["kernel"].shape == (1, 1, 2, 4, 3)
    assert turned["kernel"][0, 0, 1, 3, 2] == 23
    assert turned["kernel"][0, 0, 1, 0, 2] == 12 + 8
    assert torch.equal(turned["bias"], torch.arange(3.0))


def test_more_channels_begin_with_the_mean_kernel_and_more_classes_at_random(tmp_path):
    weights = published(8)
    torch.save(weights, tmp_path / "rat.pt")
    planned = settings(8, tmp_path / "rat.pt")
    net = build(planned, channels=2, outputs=3)
    before = net.bottleneck4.seq[2].weight.clone()
    assert load_initial_weights(net, planned).endswith("the others are random")
    torch.testing.assert_close(net.conv1.weight[:, :1], weights["conv1.weight"] / 2)
    torch.testing.assert_close(net.conv1.weight.sum(1), weights["conv1.weight"].sum(1))
    assert torch.equal(net.bottleneck4.seq[2].weight, before)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rat.safetensors", b"", "published weights of RatLesNetv2 are torch files, whose axes are turned"),
        ("rat.pt", b"no weights", "cannot be opened without running code"),
        ("none.pt", None, "do not exist"),
    ],
)
def test_what_is_no_file_of_published_weights_is_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    planned = settings(8, tmp_path / name)
    with pytest.raises(ModelError, match=message):
        load_initial_weights(build(planned), planned)


def test_weights_of_another_width_are_refused(tmp_path):
    torch.save(published(4), tmp_path / "rat.pt")
    planned = settings(8, tmp_path / "rat.pt")
    with pytest.raises(ModelError, match=r"has conv1.weight of shape \(4, 1, 1, 1, 1\), but the network's is \(8, 1"):
        load_initial_weights(build(planned), planned)


def test_stages_of_different_width_are_refused():
    uneven = settings().model_copy(update={"features": (8, 16, 16, 16)})
    with pytest.raises(PlanError, match=r"one width in all stages, but features are \[8, 16, 16, 16\]; write 8"):
        build(uneven)
