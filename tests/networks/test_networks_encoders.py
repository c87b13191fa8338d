"""Image encoders: every one of the shelf's, weights from a file, and what is said where there are none."""

import pytest
import torch
from safetensors.torch import save_file
from test_networks_contract import build, image, settings

from autoseg.core.errors import ModelError, PlanError, UsageError
from autoseg.networks import build_network, encoders, fit_settings, load_initial_weights
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


def test_a_hub_that_is_away_is_said_in_a_sentence(monkeypatch):
    def away(name, **rest):
        raise OSError("Name or service not known")

    made = planned("unet_resnet", encoder="resnet18", weights="imagenet")
    net = make(made)
    monkeypatch.setattr(encoders.import_smp().encoders, "get_encoder", away)
    with pytest.raises(
        ModelError, match=r"'resnet18' are not on this machine, and huggingface.co/smp-hub/resnet18"
    ) as e:
        load_initial_weights(net, made)
    assert "give a file of them, fetched elsewhere, as network.options.weights" in str(e.value)


def test_without_weights_nothing_is_loaded():
    made = planned()
    assert load_initial_weights(make(made), made) is None


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
    monkeypatch.setattr(encoders.importlib, "import_module", missing)
    with pytest.raises(UsageError, match=r"segmentation_models_pytorch, which is not installed.*autoseg\[encoders\]"):
        encoders.import_smp()
    encoders.import_smp.cache_clear()
