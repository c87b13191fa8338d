"""Sources of initial weights: models of autoseg, models of nnU-Net, published weights of a known network."""

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
from autoseg.transfer.model_files import open_model_files
from autoseg.transfer.models import find_models, read_folds

PRETRAINING = "pretraining.json"  # beside the plan of a network pre-trained without labels
WEIGHTS_OPTION = "weights"


@dataclass(frozen=True, kw_only=True)
class TransferSource:
    """A model as source of initial weights.

    Attributes:
        model: its weights, channels and outputs.
        network: its settings, without a file of weights.
        dimensions: 2 or 3.
        preprocessing: of its training scans, or None where unknown.
        patch_size: of its training, or None.
        only_for: name of the planned configuration that it was read for; None for all of its dimensions.
    """

    model: SourceModel
    network: NetworkSettings
    dimensions: int
    preprocessing: PreprocessingSettings | None = None
    patch_size: tuple[int, ...] | None = None
    only_for: str | None = None


def read_own_model(folder: Path, name: str) -> TransferSource:
    """A model folder of autoseg's, or one of its folds; of several folds, ``all`` or the first.

    Args:
        folder: ``<dataset>/<configuration>``, or ``fold_<fold>`` in it.
        name: as given by the user.

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
        planned = ", ".join(plan.configurations)
        raise ModelError(f"{home} is named '{home.name}', but its plan holds {planned}; rename it back")
    weights = read_weights(fold_folder(home, fold) / WEIGHTS)
    return _from_plan(plan, home.name, weights, name, predicts=not (home / PRETRAINING).exists())


def read_nnunet_models(path: Path, name: str) -> tuple[TransferSource, ...]:
    """The models of an nnU-Net folder or exported zip, the first fold of each.

    Raises:
        UsageError, ModelError: as in an import.
    """
    sources = []
    with open_model_files(path) as source:
        for model in find_models(source):
            if model.previous_stage is not None:
                continue  # a cascade sees masks of its previous stage
            fold = next(read_folds(source, model, dataset="source", any_trainer=False))
            sources.append(_from_plan(fold.plan, model.name, fold.weights, name, predicts=True))
    if not sources:
        raise UsageError(f"{path} holds cascades only, whose networks see masks; use a model of scans alone")
    return tuple(sources)


def read_weights_file(path: Path, name: str, plan: Plan) -> tuple[TransferSource, ...]:
    """A file of weights: RatLesNetv2's, or those of an encoder in a planned network.

    Args:
        plan: of the dataset to train.

    Raises:
        ModelError: the file cannot be read, or fits no planned network.
    """
    tensors = read_tensors(path)
    settings = recognise_ratlesnet(tensors)
    if settings is not None:
        weights = turn_published(tensors)
        channels = tuple(f"published {number}" for number in range(weights["conv1.weight"].shape[1]))
        outputs = int(weights[f"bottleneck{len(settings.features)}.seq.2.bias"].shape[0])
        model = SourceModel(name=name, weights=weights, channels=channels, outputs=outputs, overlap=False)
        return (TransferSource(model=model, network=settings, dimensions=3),)
    sources, failures = [], []
    for configuration_name, configuration in plan.configurations.items():
        if WEIGHTS_OPTION not in network_traits(configuration.network.name).options or configuration.transfer:
            continue
        try:
            sources.append(_read_encoder(path, name, plan, configuration_name, configuration))
        except AutosegError as error:
            failures.append(f"{configuration_name}: {error}")
    if not sources:
        reason = f" ({failures[0]})" if failures else ""
        raise ModelError(
            f"{path} fits no network planned for {plan.dataset}{reason}; plan one on that encoder first: "
            f"autoseg_plan -d {plan.dataset} --network unet_resnet"
        )
    return tuple(sources)


def recognise_ratlesnet(tensors: Mapping[str, torch.Tensor]) -> NetworkSettings | None:
    """Settings of the RatLesNetv2 with these published weights, or None for other weights."""
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
    plan: Plan, configuration_name: str, weights: Mapping[str, torch.Tensor], name: str, *, predicts: bool
) -> TransferSource:
    configuration = plan.configurations[configuration_name]
    model = SourceModel(
        name=name,
        weights=weights,
        channels=plan.input_names(configuration_name),
        outputs=len(plan.outputs.values) if predicts else None,
        overlap=plan.outputs.overlap,
    )
    return TransferSource(
        model=model,
        network=_without_file(configuration.network),
        dimensions=configuration.dimensions,
        preprocessing=configuration.preprocessing,
        patch_size=configuration.patch_size,
    )


def _without_file(settings: NetworkSettings) -> NetworkSettings:
    options = {key: value for key, value in settings.options.items() if key != WEIGHTS_OPTION}
    return settings.model_copy(update={"options": options})


def _read_encoder(
    path: Path, name: str, plan: Plan, configuration_name: str, configuration: Configuration
) -> TransferSource:
    """Weights of a file for the network of a planned configuration."""
    bare = _without_file(configuration.network)
    settings = bare.model_copy(update={"options": {**bare.options, WEIGHTS_OPTION: str(path)}})
    network = build_network(
        settings,
        dimensions=configuration.dimensions,
        input_channels=plan.count_inputs(configuration_name),
        output_channels=len(plan.outputs.values),
        seed=0,
    )
    with torch.no_grad():
        for weight in network.parameters():  # values still NaN afterwards were not in the file
            weight.fill_(torch.nan)
    load_initial_weights(network, settings)
    state = network.state_dict()
    parameters = {key for key, weight in network.named_parameters() if not bool(torch.isnan(weight).any())}
    stems = {key.rpartition(".")[0] for key in parameters}
    weights = {key: v for key, v in state.items() if key in parameters or key.rpartition(".")[0] in stems}
    weights = {key: v for key, v in weights.items() if not bool(torch.isnan(v).any())}
    # The file's first convolution was adapted to the channels already: the mean kernel for each.
    channels = tuple(f"image {number}" for number in range(plan.count_inputs(configuration_name)))
    model = SourceModel(name=name, weights=weights, channels=channels, outputs=None, overlap=False)
    source = TransferSource(model=model, network=bare, dimensions=configuration.dimensions)
    return replace(source, only_for=configuration_name, patch_size=configuration.patch_size)


def find_own_model(path: Path) -> Path | None:
    """The path where it is a model folder of autoseg or a fold in one, else None."""
    home = path.parent if path.name.startswith("fold_") else path
    return path if (home / PLAN).is_file() else None
