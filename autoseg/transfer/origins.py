"""Models that a training can begin with: autoseg's own, nnU-Net's, published weights of a known network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from autoseg.core.errors import AutosegError, ModelError, UsageError
from autoseg.core.records import Configuration, NetworkSettings, Plan, PreprocessingSettings
from autoseg.model import PLAN, WEIGHTS, fold_folder, load_plan, read_weights, trained_folds
from autoseg.networks import build_network, load_initial_weights, network_traits
from autoseg.networks.initial import read_tensors
from autoseg.networks.ratlesnetv2 import turn_published
from autoseg.transfer.adapting import SourceModel
from autoseg.transfer.models import find_models, read_folds
from autoseg.transfer.source import open_source

PRETRAINING = "pretraining.json"  # beside the plan of a network that learned without labels
WEIGHTS_OPTION = "weights"


@dataclass(frozen=True, kw_only=True)
class TransferSource:
    """A model to begin with.

    Attributes:
        giver: its weights, channels and outputs.
        network: its settings, without those that only name a file of weights.
        dimensions: 2 or 3.
        preprocessing: what its scans went through, or None where nobody says.
        patch_size: what it was trained on, or None.
        only_for: name of the planned configuration that it was read for; None for all of its dimensions.
    """

    giver: SourceModel
    network: NetworkSettings
    dimensions: int
    preprocessing: PreprocessingSettings | None = None
    patch_size: tuple[int, ...] | None = None
    only_for: str | None = None


def read_own_model(folder: Path, name: str) -> TransferSource:
    """A model folder of autoseg's, or one of its folds; of several, ``all`` or the first.

    Args:
        folder: ``<dataset>/<configuration>``, or ``fold_<fold>`` in it.
        name: as the user named it.

    Raises:
        ModelError: no fold is trained, or the weights are damaged.
    """
    fold = folder.name.removeprefix("fold_") if folder.name.startswith("fold_") else None
    home = folder if fold is None else folder.parent
    plan, trained = load_plan(home), trained_folds(home)
    if fold is None:
        fold = "all" if "all" in trained else next(iter(trained), None)
    if fold is None or fold not in trained:
        raise ModelError(f"{folder} has no trained weights (no fold_*/{WEIGHTS}); finish its training first")
    configuration = plan.configurations.get(home.name)
    if configuration is None:
        known = ", ".join(plan.configurations)
        raise ModelError(f"{home} is named '{home.name}', but its plan holds {known}; give it its own name back")
    weights = read_weights(fold_folder(home, fold) / WEIGHTS)
    return _from_plan(plan, home.name, weights, name, predicts=not (home / PRETRAINING).exists())


def read_nnunet_models(path: Path, name: str) -> tuple[TransferSource, ...]:
    """The models of an nnU-Net folder or exported zip, the first fold of each.

    Raises:
        UsageError, ModelError: as in an import.
    """
    origins = []
    with open_source(path) as source:
        for model in find_models(source):
            if model.feeder is not None:
                continue  # a cascade sees masks that nobody here makes
            fold = next(read_folds(source, model, dataset="source", any_trainer=False))
            origins.append(_from_plan(fold.plan, model.name, fold.weights, name, predicts=True))
    if not origins:
        raise UsageError(f"{path} holds cascades only, whose networks see masks; give a model that sees the scan alone")
    return tuple(origins)


def read_weights_file(path: Path, name: str, plan: Plan) -> tuple[TransferSource, ...]:
    """A file of weights alone: RatLesNetv2's, or those of an encoder that a planned network has.

    Args:
        plan: of the dataset that will begin with them.

    Raises:
        ModelError: the file cannot be read, or fits no network that is planned.
    """
    tensors = read_tensors(path)
    settings = recognise_ratlesnet(tensors)
    if settings is not None:
        weights = turn_published(tensors)
        channels = tuple(f"published {number}" for number in range(weights["conv1.weight"].shape[1]))
        outputs = int(weights[f"bottleneck{len(settings.features)}.seq.2.bias"].shape[0])
        giver = SourceModel(name=name, weights=weights, channels=channels, outputs=outputs, overlap=False)
        return (TransferSource(giver=giver, network=settings, dimensions=3),)
    found, failures = [], []
    for own, configuration in plan.configurations.items():
        if WEIGHTS_OPTION not in network_traits(configuration.network.name).options or configuration.transfer:
            continue
        try:
            found.append(_read_encoder(path, name, plan, own, configuration))
        except AutosegError as error:
            failures.append(f"{own}: {error}")
    if not found:
        why = f" ({failures[0]})" if failures else ""
        raise ModelError(
            f"{path} fits no network that is planned for {plan.dataset}{why}; plan one on that encoder first, as with: "
            f"autoseg_plan -d {plan.dataset} --network unet_resnet"
        )
    return tuple(found)


def recognise_ratlesnet(tensors: Mapping[str, torch.Tensor]) -> NetworkSettings | None:
    """The settings of a RatLesNetv2 whose published weights these are, or None."""
    kernel, first = tensors.get("block1.seq.2.weight"), tensors.get("conv1.weight")
    stages = [int(match[1]) for name in tensors if (match := re.fullmatch(r"bottleneck(\d+)\.seq\.2\.weight", name))]
    if kernel is None or first is None or kernel.ndim != 5 or first.ndim != 5 or len(stages) < 2:
        return None
    count = max(stages)
    return NetworkSettings(
        name="ratlesnetv2",
        features=(int(first.shape[0]),) * count,
        kernels=(tuple(kernel.shape[2:]),) * count,
        strides=((1, 1, 1), *(((2, 2, 2),) * (count - 1))),
        encoder_blocks=(1,) * count,
        decoder_blocks=(1,) * (count - 1),
        deep_supervision=False,
    )


def _from_plan(
    plan: Plan, name: str, weights: Mapping[str, torch.Tensor], said: str, *, predicts: bool
) -> TransferSource:
    configuration = plan.configurations[name]
    masks = tuple(f"mask {number}" for number in range(len(plan.mask_values(name))))
    giver = SourceModel(
        name=said,
        weights=weights,
        channels=plan.channels + masks,
        outputs=len(plan.outputs.values) if predicts else None,
        overlap=plan.outputs.overlap,
    )
    return TransferSource(
        giver=giver,
        network=_without_file(configuration.network),
        dimensions=configuration.dimensions,
        preprocessing=configuration.preprocessing,
        patch_size=configuration.patch_size,
    )


def _without_file(settings: NetworkSettings) -> NetworkSettings:
    options = {key: value for key, value in settings.options.items() if key != WEIGHTS_OPTION}
    return settings.model_copy(update={"options": options})


def _read_encoder(path: Path, name: str, plan: Plan, own: str, configuration: Configuration) -> TransferSource:
    """What a file gives to the network of a planned configuration."""
    bare = _without_file(configuration.network)
    settings = bare.model_copy(update={"options": {**bare.options, WEIGHTS_OPTION: str(path)}})
    network = build_network(
        settings,
        dimensions=configuration.dimensions,
        input_channels=plan.count_inputs(own),
        output_channels=len(plan.outputs.values),
        seed=0,
    )
    with torch.no_grad():
        for weight in network.parameters():  # what is still NaN afterwards was not in the file
            weight.fill_(torch.nan)
    load_initial_weights(network, settings)
    state = network.state_dict()
    parameters = {key for key, weight in network.named_parameters() if not bool(torch.isnan(weight).any())}
    stems = {key.rpartition(".")[0] for key in parameters}
    weights = {key: v for key, v in state.items() if key in parameters or key.rpartition(".")[0] in stems}
    weights = {key: v for key, v in weights.items() if not bool(torch.isnan(v).any())}
    # The file's first convolution has been spread over the channels already: a mean, each of them.
    channels = tuple(f"image {number}" for number in range(plan.count_inputs(own)))
    giver = SourceModel(name=name, weights=weights, channels=channels, outputs=None, overlap=False)
    origin = TransferSource(giver=giver, network=bare, dimensions=configuration.dimensions)
    return replace(origin, only_for=own, patch_size=configuration.patch_size)


def find_own_model(path: Path) -> Path | None:
    """The model folder of autoseg's that a path means, or None where it is none."""
    home = path.parent if path.name.startswith("fold_") else path
    return path if (home / PLAN).is_file() else None
