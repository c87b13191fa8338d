"""Models of nnU-Net in a folder or zip, each as a plan and the weights of its folds."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import torch
from torch import nn

from autoseg.core.errors import ModelError, UsageError
from autoseg.core.records import Plan
from autoseg.core.store import check_name
from autoseg.core.text import join_names
from autoseg.model import planned_network
from autoseg.transfer.documents import read_configuration, read_json, read_plans
from autoseg.transfer.model_files import FOLD_FILE, Checkpoint, ModelFiles, check_trainer, read_checkpoint
from autoseg.transfer.translation import own_name, translate_plan

log = logging.getLogger(__name__)

FINAL = "checkpoint_final.pth"
# nnU-Net's networks hold some modules under several names: the encoder also inside the decoder, and each layer of a
# block both alone and in the list that is called. Networks here hold each once.
_ALIASES = (
    ("decoder.encoder.", "encoder."),
    (".conv.", ".all_modules.0."),
    (".norm.", ".all_modules.1."),
)


@dataclass(frozen=True, kw_only=True)
class FoundModel:
    """One model, located but not read.

    Attributes:
        folder: inside the source.
        configuration: nnU-Net's name, from its folder.
        folds: fold -> its checkpoint inside the source.
        previous_stage: of a cascade, the model whose mask is an input too; None otherwise.
    """

    folder: PurePosixPath
    configuration: str
    folds: Mapping[str, PurePosixPath]
    previous_stage: FoundModel | None = None

    @property
    def name(self) -> str:
        """autoseg's name of the configuration."""
        return own_name(self.configuration)


@dataclass(frozen=True, kw_only=True)
class ImportedFold:
    """One fold of a model, ready to be saved.

    Attributes:
        fold: its number, or ``all``.
        plan: the same for every fold of the model.
        weights: parameter name -> float32 tensor.
    """

    fold: str
    plan: Plan
    weights: Mapping[str, torch.Tensor]


def find_models(source: ModelFiles, configurations: Sequence[str] = ()) -> tuple[FoundModel, ...]:
    """The models of a source, one per configuration.

    Args:
        configurations: those to import, by nnU-Net's or autoseg's names; empty for all.

    Raises:
        UsageError: there is no model, none of that configuration, or several with the same name.
        ModelError: a model is incomplete.
    """
    homes = sorted({path.parent for path in source.sizes if path.name == "plans.json"})
    homes += sorted({path.parent.parent for path in source.sizes if FOLD_FILE.search(str(path))} - set(homes))
    if not homes:
        raise UsageError(
            f"{source.name} holds no model of nnU-Net v2 (plans.json, dataset.json and fold_0/{FINAL}); give the "
            f"folder <dataset>/<trainer>__<plans>__<configuration>, the one above it, or nnU-Net's exported zip"
        )
    models = [_find_model(source, home) for home in homes]
    names = {name for model in models for name in (model.configuration, model.name)}
    for requested in configurations:
        if requested not in names:
            available = ", ".join(sorted({model.configuration for model in models}))
            raise UsageError(f"{source.name} has no configuration '{requested}'; choose from: {available}")
    chosen = [m for m in models if not configurations or {m.configuration, m.name} & set(configurations)]
    for model in chosen:
        same_name = [str(candidate.folder) for candidate in chosen if candidate.name == model.name]
        if len(same_name) > 1:
            raise UsageError(
                f"{source.name} holds {len(same_name)} models of {model.configuration} ({', '.join(same_name)}); "
                f"give the folder of one of them"
            )
        _warn_unfinished(model)
    return tuple(_add_previous_stage(source, model, models) for model in chosen)


def read_folds(
    source: ModelFiles, model: FoundModel, *, dataset: str, any_trainer: bool, previous_plan: Plan | None = None
) -> Iterator[ImportedFold]:
    """Every fold of a model, one at a time: a checkpoint can be as large as the memory of a laptop.

    Args:
        previous_plan: of a cascade, the plan of its previous stage.
        dataset: the imported model's name.
        any_trainer: also take a trainer that is not nnU-Net's own.

    Raises:
        ModelError: it is damaged, could run code, or cannot be reproduced.
    """
    where = Path(source.name) / model.folder
    plans = read_plans(source.read(model.folder / "plans.json"), str(where / "plans.json"))
    described = read_json(source.read(model.folder / "dataset.json"), str(where / "dataset.json"))
    first: Plan | None = None
    for fold, path in model.folds.items():
        checkpoint = read_checkpoint(source.read(path), str(Path(source.name) / path))
        _check_belongs(checkpoint, model)
        check_trainer(checkpoint, any_trainer=any_trainer)
        configuration = read_configuration(plans, checkpoint.configuration, str(where / "plans.json"))
        plan = translate_plan(
            plans, configuration, described, checkpoint, dataset=dataset, where=where, previous_plan=previous_plan
        )
        if first is not None and plan != first:
            raise ModelError(
                f"{checkpoint.where} was trained differently from the previous folds (trainer {checkpoint.trainer}, "
                f"mirror axes {checkpoint.mirror_axes}); remove it from the folder"
            )
        first = plan
        network = planned_network(plan, model.name, seed=0)
        yield ImportedFold(fold=fold, plan=plan, weights=fit_weights(checkpoint.weights, network, checkpoint.where))


def _find_model(source: ModelFiles, home: PurePosixPath) -> FoundModel:
    """The model of a folder with all its checkpoints; a renamed folder is identified by its checkpoint."""
    shown = home.name or Path(source.name).name
    missing = [name for name in ("plans.json", "dataset.json") if home / name not in source.sizes]
    if missing:
        raise ModelError(f"{Path(source.name) / home} lacks {' and '.join(missing)}; copy the whole model again")
    checkpoints = {str(path.parent.name).removeprefix("fold_"): path for path in _checkpoints(source, home)}
    if not checkpoints:
        raise ModelError(f"{Path(source.name) / home} has no fold_*/{FINAL}; finish training a fold, or copy it again")
    named = shown.split("__")
    if len(named) == 3:
        configuration = named[2]
    else:
        path = next(iter(checkpoints.values()))
        configuration = read_checkpoint(source.read(path), str(Path(source.name) / path)).configuration
    check_name(configuration, "configuration")
    return FoundModel(folder=home, configuration=configuration, folds=checkpoints)


def _checkpoints(source: ModelFiles, home: PurePosixPath) -> list[PurePosixPath]:
    """The final checkpoint of each fold, or the best one where there is no final one."""
    paths = [path for path in source.sizes if path.parent.parent == home and FOLD_FILE.search(str(path))]
    # "best" sorts before "final", so the later entry of a fold replaces it; folds by number, "all" last.
    return sorted(paths, key=lambda path: (path.parent.name == "fold_all", len(path.parent.name), path))


def _add_previous_stage(source: ModelFiles, model: FoundModel, models: Sequence[FoundModel]) -> FoundModel:
    """The model, and of a cascade also its previous stage: the model of the same trainer and plans."""
    where = str(Path(source.name) / model.folder / "plans.json")
    plans = read_plans(source.read(model.folder / "plans.json"), where)
    stage = read_configuration(plans, model.configuration, where).previous_stage
    if stage is None:
        return model
    folder = f"{model.folder.name.rpartition('__')[0]}__{stage}"
    for candidate in models:
        if candidate.configuration == stage and candidate.folder == model.folder.with_name(folder):
            return replace(model, previous_stage=candidate)
    raise ModelError(
        f"{Path(source.name) / model.folder} is a cascade on {stage}, but {source.name} holds no {folder} beside "
        f"it; give the folder above both or a zip with both, or choose another configuration with -c"
    )


def _warn_unfinished(model: FoundModel) -> None:
    for fold, path in model.folds.items():
        if path.name != FINAL:
            log.warning("%s: fold %s has no %s; using %s", model.configuration, fold, FINAL, path.name)


def _check_belongs(checkpoint: Checkpoint, model: FoundModel) -> None:
    if checkpoint.configuration != model.configuration:
        raise ModelError(
            f"{checkpoint.where} is of configuration {checkpoint.configuration}, but its folder is that of "
            f"{model.configuration}; move it to its own folder"
        )


def fit_weights(weights: Mapping[str, torch.Tensor], network: nn.Module, where: str) -> dict[str, torch.Tensor]:
    """The weights under the names of autoseg's network.

    Args:
        weights: parameter name -> tensor of any float type.
        network: planned for them.
        where: the file they came from, for messages.

    Returns:
        Parameter name -> tensor, float32, exactly those that the network has.

    Raises:
        ModelError: a tensor is missing, left over, of another shape, or not finite.
    """
    current = network.state_dict()
    left_over = sorted(set(weights) - set(current))
    foreign = [name for name in left_over if not _is_alias(name, weights)]
    missing = sorted(set(current) - set(weights))
    for problem, names in (("lacks", missing), ("has, beyond the network in its plans,", foreign)):
        if names:
            raise ModelError(
                f"{where} {problem} {len(names)} tensors ({join_names(names, limit=1)}), so its trainer "
                f"changed the network of its plans; it cannot be imported"
            )
    for name, tensor in current.items():
        values = weights[name]
        if values.shape != tensor.shape:
            raise ModelError(
                f"{where} has {name} of shape {tuple(values.shape)}, but its plans and labels make it "
                f"{tuple(tensor.shape)}; copy the whole model again"
            )
        if not bool(torch.isfinite(values).all()):
            raise ModelError(f"{where} has values in {name} that are NaN or infinite; use another model")
    return {name: weights[name].to(torch.float32) for name in current}


def _is_alias(name: str, weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether the tensor is another name of one that the network has."""
    canonical = name
    for their_name, our_name in _ALIASES:
        canonical = canonical.replace(their_name, our_name)
    return canonical != name and canonical in weights and torch.equal(weights[canonical], weights[name])
