"""Models to begin with: ours, nnU-Net's, published ones, encoders; and plans fitted to them."""

import pytest
import torch
from transfer_models import write_model

from autoseg.core.errors import MemoryShortageError, ModelError, UsageError
from autoseg.core.records import NetworkSettings
from autoseg.model import save_plan, save_weights
from autoseg.networks import build_network
from autoseg.planning.pricing import Price
from autoseg.transfer.configuring import fit_axes, fit_configuration
from autoseg.transfer.sources import read_nnunet_models, read_own_model, read_weights_file


def free(step):
    return Price(weights=10**9 * step.batch, activations=0, forward_gflop=1.0, step_gflop=3.0)


@pytest.fixture
def source(tmp_path):
    """Of a tiny 3D model of nnU-Net's with FLAIR and CT."""
    (found,) = read_nnunet_models(write_model(tmp_path), "theirs")
    return found


@pytest.fixture
def plan(tmp_path):
    """Of a tiny dataset: the same model's, imported."""
    from autoseg.transfer import find_models, open_model_files, read_folds

    with open_model_files(write_model(tmp_path)) as source:
        (model,) = find_models(source)
        return next(read_folds(source, model, dataset="Tiny", any_trainer=False)).plan


def test_a_model_of_nnunets_gives_weights_channels_and_outputs(source):
    assert (source.model.channels, source.model.outputs, source.dimensions) == (("FLAIR", "CT"), 3, 3)
    assert "decoder.seg_layers.0.weight" in source.model.weights


def test_a_folder_of_ours_gives_the_fold_that_was_named_and_else_the_first(tmp_path, plan, source):
    home = tmp_path / "X" / "3d"
    save_plan(home, plan)
    for fold, value in (("0", 1.0), ("2", 3.0)):
        save_weights(home, fold, {"w": torch.full((1,), value)})
    assert float(read_own_model(home, "X/3d").model.weights["w"]) == 1
    assert float(read_own_model(home / "fold_2", "X/3d").model.weights["w"]) == 3
    with pytest.raises(ModelError, match="has no trained weights"):
        read_own_model(home / "fold_1", "X/3d")


def test_nothing_but_a_cascade_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no model of nnU-Net v2"):
        read_nnunet_models(tmp_path, "nothing")


def test_published_weights_are_recognised_with_their_topology(tmp_path, plan):
    ones, twos, threes = ((n,) * 3 for n in (1, 2, 3))
    settings = NetworkSettings(
        name="ratlesnetv2", features=(8,) * 3, kernels=(threes,) * 3, strides=(ones, twos, twos),
        encoder_blocks=(1,) * 3, decoder_blocks=(1,) * 2, deep_supervision=False,
    )  # fmt: skip
    network = build_network(settings, dimensions=3, input_channels=1, output_channels=2, seed=0)
    torch.save(network.state_dict(), tmp_path / "published.pt")
    (found,) = read_weights_file(tmp_path / "published.pt", "published", plan)
    assert found.network == settings
    assert (found.model.outputs, found.dimensions, found.preprocessing) == (2, 3, None)


def test_weights_that_fit_nothing_planned_say_what_to_plan(tmp_path, plan):
    torch.save({"conv1.weight": torch.ones(4, 3, 7, 7)}, tmp_path / "resnet.pt")
    with pytest.raises(ModelError, match=r"fits no network planned for Tiny.*--network unet_resnet"):
        read_weights_file(tmp_path / "resnet.pt", "resnet", plan)


def test_the_plan_takes_network_spacing_and_normalisation_from_the_source(plan, source):
    base = plan.configurations["3d"]
    wide = base.preprocessing.model_copy(update={"spacing": (16.0, 1.5, 1.2)})
    plan = plan.model_copy(update={"configurations": {"3d": base.model_copy(update={"preprocessing": wide})}})
    plan = plan.model_copy(update={"channels": ("ct", "T2")})
    fitted = fit_configuration(plan, "3d", source, cost=free)
    assert fitted.configuration.network == source.network
    assert fitted.configuration.preprocessing.spacing == (16.0, 1.0, 1.2)  # four times as far: the dataset's own
    theirs, own = source.preprocessing.channels, base.preprocessing.channels
    assert fitted.configuration.preprocessing.channels == (theirs[1], own[1])
    assert fitted.configuration.optimiser.warmup_share == 0.05


def test_the_batch_gives_way_first_and_too_little_memory_is_an_error(plan, source):
    plan = plan.model_copy(
        update={"configurations": {"3d": plan.configurations["3d"].model_copy(update={"batch_size": 16})}}
    )
    assert fit_configuration(plan, "3d", source, cost=free).configuration.batch_size == 7  # 7.5 GB of 8
    with pytest.raises(MemoryShortageError, match=r"the plan is for 0\.7 GB"):
        fit_configuration(plan.model_copy(update={"memory_gb": 0.7}), "3d", source, cost=free)


def test_a_network_of_slices_gets_the_first_axis_of_the_planned_volume():
    flat, deep = (
        NetworkSettings(
            name="unet", features=(4,) * stages, kernels=kernels, strides=strides,
            encoder_blocks=(1,) * stages, decoder_blocks=(1,) * (stages - 1),
        )
        for stages, kernels, strides in (
            (3, ((3, 3),) * 3, ((1, 1), (2, 2), (2, 2))),
            (2, ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (2, 2, 2))),
        )
    )  # fmt: skip
    lifted = fit_axes(flat, deep)
    assert lifted.kernels == ((1, 3, 3), (3, 3, 3), (3, 3, 3))
    assert lifted.strides == ((1, 1, 1), (2, 2, 2), (1, 2, 2))
    assert fit_axes(lifted, flat) == flat


def test_every_value_keeps_a_reason(plan, source):
    reasons = {**plan.reasons, "3d.sampling": "Because.", "3d.preprocessing.spacing": "Median."}
    fitted = fit_configuration(plan.model_copy(update={"reasons": reasons}), "3d", source, cost=free)
    assert fitted.reasons["sampling"] == "Because."
    assert fitted.reasons["loss"] == "As 3d; heads weighted 1, finest first."
    assert fitted.reasons["preprocessing.spacing"].startswith("That of theirs along every axis")
