"""``autoseg_plan --pretrained``: adapted once, kept, and begun with."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from autoseg.cli import plan
from autoseg.core.errors import ModelError
from autoseg.core.records import Plan, TransferSettings
from autoseg.core.store import read_record, write_record
from autoseg.folds import initial_weights
from autoseg.model import planned_network
from autoseg.networks import fit_settings

ASKED = ("--pretrained", "Tiny/3d", "--with-scratch-twin", "--mode", "gradual")


def planned_of(root):
    return root / "autoseg_preprocessed" / "Tiny"


def read_plan(root):
    return json.loads((planned_of(root) / "plan.json").read_text())


@pytest.fixture(scope="module")
def transferred_template(trained_template, tmp_path_factory):
    folder = tmp_path_factory.mktemp("transferred") / "root"
    shutil.copytree(trained_template, folder)
    with pytest.raises(SystemExit) as stop:
        plan(["-d", "Tiny", "--root", str(folder), "-q", *ASKED])
    assert stop.value.code == 0
    return folder


@pytest.fixture
def transferred(transferred_template, tmp_path):
    shutil.copytree(transferred_template, tmp_path / "root")
    return tmp_path / "root"


def test_a_transfer_and_its_twin_differ_in_their_beginning_alone(transferred):
    configurations = read_plan(transferred)["configurations"]
    transfer, twin = configurations["3d_transfer"], configurations["3d_transfer_scratch"]
    assert transfer.pop("transfer") | {"digest": ""} == {
        "source": "Tiny/3d", "weights": "3d_transfer.safetensors", "digest": "", "mode": "gradual",
        "encoder_learning_rate_factor": 0.1, "freeze_statistics": False, "unfreeze_share": 0.25, "least_share": 0.5,
    }  # fmt: skip
    assert twin.pop("transfer") is None
    assert transfer == twin
    assert transfer["optimiser"]["warmup_share"] == 0.05


def test_the_weights_are_the_sources_and_the_report_is_kept(transferred):
    starts = planned_of(transferred) / "transfer"
    report = json.loads((starts / "3d_transfer.json").read_text())
    assert (report["loaded"], report["random"]) == (1, 0)
    assert report["channels"] == {"FLAIR": "FLAIR", "T1": "T1"}
    source = load_file(transferred / "autoseg_results" / "Tiny" / "3d" / "fold_0" / "model.safetensors")
    begun = load_file(starts / "3d_transfer.safetensors")
    assert all(np.array_equal(begun[name], source[name]) for name in source)


def test_planning_again_keeps_them_and_none_drops_them(transferred, run):
    before = read_plan(transferred)["configurations"]
    code, _, err = run("plan", "-d", "Tiny", "--root", transferred)
    assert code == 0
    assert "3d_transfer, 3d_transfer_scratch" in err
    assert read_plan(transferred)["configurations"] == before
    code, _, _ = run("plan", "-d", "Tiny", "--root", transferred, "--pretrained", "none")
    assert code == 0
    assert not [name for name in read_plan(transferred)["configurations"] if "transfer" in name]
    assert not list((planned_of(transferred) / "transfer").iterdir())


def test_a_training_begins_with_them_and_says_so(transferred, run):
    one = ("--epochs", "2", "--steps-per-epoch", "2")
    code, out, err = run("train", "-d", "Tiny", "-c", "3d_transfer", "-f", "0", "--root", transferred, *one)
    assert code == 0, err
    assert "3d_transfer starts from the weights of Tiny/3d (100.0 % of its parameters)" in err
    assert "training the encoder from here on" in err
    assert "lesion" in out


def test_weights_that_are_gone_or_others_are_refused(transferred, run):
    train = ("train", "-d", "Tiny", "-c", "3d_transfer", "-f", "0", "--root", transferred, "--epochs", "1")
    path = planned_of(transferred) / "transfer" / "3d_transfer.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    code, _, err = run(*train)
    assert code == 2
    assert (
        "is not the file that '3d_transfer' was planned to start from; make it again with: autoseg_plan -d Tiny" in err
    )
    path.unlink()
    code, _, err = run(*train)
    assert code == 2
    assert f"{path} is missing; make it again with: autoseg_plan -d Tiny --pretrained Tiny/3d" in err


@pytest.mark.parametrize(
    ("options", "clause"),
    [
        (("--pretrained", "Tiny/5d"), "'Tiny/5d' is not a file, folder or trained model; trained models: Tiny/3d"),
        (("--pretrained", "Tiny/3d", "--keep"), "--keep uses the plan unchanged; leave one of them out"),
        (("--mode", "head"), "need --pretrained MODEL"),
    ],
)
def test_what_does_not_go_together_or_does_not_exist(trained, run, options, clause):
    code, _, err = run("plan", "-d", "Tiny", "--root", trained, *options)
    assert code == 2
    assert clause in err


def test_published_weights_of_a_network_that_recognises_them(planned, run, tmp_path):
    import torch

    from autoseg.core.records import NetworkSettings
    from autoseg.networks import build_network

    ones, twos, threes = ((n,) * 3 for n in (1, 2, 3))
    settings = NetworkSettings(
        name="ratlesnetv2", features=(4, 4), kernels=(threes, threes), strides=(ones, twos), encoder_blocks=(1, 1),
        decoder_blocks=(1,), deep_supervision=False,
    )  # fmt: skip
    network = build_network(settings, dimensions=3, input_channels=1, output_channels=2, seed=0)
    torch.save(network.state_dict(), tmp_path / "published.pt")
    code, _, err = run("plan", "-d", "Tiny", "--root", planned, "--pretrained", tmp_path / "published.pt")
    assert code == 0, err
    configuration = read_plan(planned)["configurations"]["3d_transfer"]
    assert (configuration["network"]["name"], configuration["network"]["features"]) == ("ratlesnetv2", [4, 4])
    begun = load_file(planned_of(planned) / "transfer" / "3d_transfer.safetensors")
    published = network.state_dict()
    # Their last two axes are turned, and each of two channels takes half of the only one.
    assert np.array_equal(begun["block1.seq.2.weight"], published["block1.seq.2.weight"].transpose(3, 4).numpy())
    assert np.allclose(begun["conv1.weight"], published["conv1.weight"].numpy() / 2 * np.ones((1, 2, 1, 1, 1)))


@pytest.fixture
def on_encoder(planned):
    """The root with a configuration ``2d_encoder``, whose encoder begins with the weights of a file; and that file."""
    path = planned_of(planned) / "plan.json"
    made = read_record(Plan, path, advice="")
    slices, size, file = made.configurations["2d"], (32, 64), planned / "encoder.pt"
    options = {"encoder": "tu-test_efficientnet", "weights": str(file)}
    network = slices.network.model_copy(update={"name": "unet_efficientnet_lite", "options": options})
    changed = slices.model_copy(
        update={
            "patch_size": size,
            "tiling": slices.tiling.model_copy(update={"tile_size": size}),
            "network": fit_settings(network, dimensions=2, patch=size),
            "loss": slices.loss.model_copy(update={"deep_supervision_weights": ()}),
            "transfer": TransferSettings(source="ImageNet", encoder_learning_rate_factor=0.3, freeze_statistics=True),
        }
    )
    made = made.model_copy(update={"configurations": {**made.configurations, "2d_encoder": changed}})
    write_record(path, made)
    encoder = planned_network(made, "2d_encoder", seed=7).encoder.state_dict()
    torch.save({name.removeprefix("model."): tensor for name, tensor in encoder.items()}, file)
    return planned, file


def test_an_encoder_begins_with_the_weights_of_its_option_and_is_trained_as_the_plan_says(on_encoder, run):
    root, file = on_encoder
    one = ("--epochs", "1", "--steps-per-epoch", "2", "--device", "cpu")
    code, _, err = run("train", "-d", "Tiny", "-c", "2d_encoder", "-f", "0", "--root", root, *one)
    assert code == 0, err
    assert f"weights loaded from {file}" in err
    begun = torch.load(file, weights_only=True)
    trained = load_file(root / "autoseg_results" / "Tiny" / "2d_encoder" / "fold_0" / "model.safetensors")
    moved = {name for name, tensor in begun.items() if not np.array_equal(trained[f"encoder.model.{name}"], tensor)}
    assert {"conv_stem.weight", "bn1.weight"} <= moved
    assert not [name for name in moved if name.rpartition(".")[2] in ("running_mean", "running_var")]


def test_a_recipe_without_its_weights_says_what_to_train(on_encoder, monkeypatch):
    made = read_record(Plan, planned_of(on_encoder[0]) / "plan.json", advice="")

    def refuse(network, settings):
        raise ModelError("the weights cannot be reached; connect it once")

    monkeypatch.setattr(initial_weights, "load_initial_weights", refuse)
    twin = {"2d_encoder_lite0": made.configurations["2d_encoder"]}
    recipe = made.model_copy(update={"recipes": ("2d_encoder",), "configurations": {**made.configurations, **twin}})
    network = planned_network(made, "2d_encoder", seed=7)
    for each, message in ((made, "once$"), (recipe, "once, or train its stand-in 2d_encoder_lite0$")):
        with pytest.raises(ModelError, match=message):
            initial_weights.load_initial_weights_into(network, each, "2d_encoder", on_encoder[0])


def test_a_transfer_without_any_weights_is_refused(on_encoder):
    made = read_record(Plan, planned_of(on_encoder[0]) / "plan.json", advice="").model_dump(by_alias=True)
    del made["configurations"]["2d_encoder"]["network"]["options"]["weights"]
    with pytest.raises(ValueError, match=r"transfer has no weights; set network.options.weights, or set "):
        Plan.model_validate(made)


def test_a_twin_is_not_dropped_unless_it_is_said(run, transferred):
    plan_again = ("plan", "-d", "Tiny", "--root", transferred, "-q", "--pretrained", "Tiny/3d")
    before = (planned_of(transferred) / "plan.json").read_bytes()
    code, _, err = run(*plan_again)
    assert code == 2
    assert "--pretrained would drop 3d_transfer_scratch, 2d_transfer_scratch from the plan; keep" in err
    assert "--with-scratch-twin" in err
    assert (planned_of(transferred) / "plan.json").read_bytes() == before


def test_a_trained_transfer_is_not_planned_again_unless_it_is_said(run, transferred):
    weights = transferred / "autoseg_results" / "Tiny" / "3d_transfer" / "fold_0" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"trained")
    plan_again = ("plan", "-d", "Tiny", "--root", transferred, "-q", *ASKED[:3])  # in another mode
    code, _, err = run(*plan_again)
    assert code == 2
    assert "--pretrained would plan 3d_transfer with other initial weights than its trained folds had" in err
