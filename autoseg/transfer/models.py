"""Which models of nnU-Net a source holds, and each of them as a plan and the weights of its folds."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import torch

from autoseg.core.errors import ModelError, UsageError
from autoseg.core.records import Plan
from autoseg.core.store import check_name
from autoseg.model import planned_network
from autoseg.transfer.checkpoint import Checkpoint, read_checkpoint
from autoseg.transfer.documents import read_configuration, read_json, read_plans
from autoseg.transfer.source import FOLD_FILE, ModelSource
from autoseg.transfer.trainers import check_trainer
from autoseg.transfer.translation import own_name, translate_plan
from autoseg.transfer.weights import fit_weights

log = logging.getLogger(__name__)

FINAL = "checkpoint_final.pth"


@dataclass(frozen=True, kw_only=True)
class FoundModel:
    """One model in a source, not read yet.

    Attributes:
        folder: inside the source.
        configuration: nnU-Net's name, as its folder says.
        folds: fold -> its checkpoint inside the source.
        feeder: of a cascade, the model whose mask its network sees too; None otherwise.
    """

    folder: PurePosixPath
    configuration: str
    folds: Mapping[str, PurePosixPath]
    feeder: FoundModel | None = None

    @property
    def name(self) -> str:
        """Our name of the configuration."""
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


def find_models(source: ModelSource, configurations: Sequence[str] = ()) -> tuple[FoundModel, ...]:
    """The models of a source, one per configuration.

    Args:
        configurations: those that are wanted, by nnU-Net's names or ours; empty for all.

    Raises:
        UsageError: there is no model, none of that configuration, or several that would get the same name.
        ModelError: a model is incomplete.
    """
    homes = sorted({path.parent for path in source.sizes if path.name == "plans.json"})
    homes += sorted({path.parent.parent for path in source.sizes if FOLD_FILE.search(str(path))} - set(homes))
    if not homes:
        raise UsageError(
            f"{source.name} holds no model of nnU-Net v2 (plans.json, dataset.json and fold_0/{FINAL}); give the "
            f"folder <dataset>/<trainer>__<plans>__<configuration>, the one above it, or nnU-Net's exported zip"
        )
    found = [_find_model(source, home) for home in homes]
    names = {name for model in found for name in (model.configuration, model.name)}
    for wanted in configurations:
        if wanted not in names:
            known = ", ".join(sorted({model.configuration for model in found}))
            raise UsageError(f"{source.name} has no configuration '{wanted}'; there are: {known}")
    chosen = [m for m in found if not configurations or {m.configuration, m.name} & set(configurations)]
    for model in chosen:
        same = [str(other.folder) for other in chosen if other.name == model.name]
        if len(same) > 1:
            raise UsageError(
                f"{source.name} holds {len(same)} models of {model.configuration} ({', '.join(same)}); "
                f"give the folder of one of them"
            )
        _tell_unfinished(model)
    return tuple(_find_feeder(source, model, found) for model in chosen)


def read_folds(
    source: ModelSource, model: FoundModel, *, dataset: str, any_trainer: bool, feeding: Plan | None = None
) -> Iterator[ImportedFold]:
    """Every fold of a model, one at a time: a checkpoint can be as large as the memory of a laptop.

    Args:
        feeding: of a cascade, the plan of its feeder.
        dataset: the model's name from now on.
        any_trainer: also take a trainer that is not nnU-Net's own.

    Raises:
        ModelError: it is damaged, could run code, or holds what we cannot reproduce.
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
            plans, configuration, described, checkpoint, dataset=dataset, where=where, feeding=feeding
        )
        if first is not None and plan != first:
            raise ModelError(
                f"{checkpoint.where} was trained otherwise than the folds before it (trainer {checkpoint.trainer}, "
                f"mirror axes {checkpoint.mirror_axes}); folds of one model must be alike: take it out of the folder"
            )
        first = plan
        network = planned_network(plan, model.name, seed=0)
        yield ImportedFold(fold=fold, plan=plan, weights=fit_weights(checkpoint.weights, network, checkpoint.where))


def _find_model(source: ModelSource, home: PurePosixPath) -> FoundModel:
    """The model of a folder with all its checkpoints; nnU-Net names its folder, a person may have renamed it."""
    shown = home.name or Path(source.name).name
    missing = [name for name in ("plans.json", "dataset.json") if home / name not in source.sizes]
    if missing:
        raise ModelError(f"{Path(source.name) / home} lacks {' and '.join(missing)}; copy the whole model again")
    checkpoints = {str(path.parent.name).removeprefix("fold_"): path for path in _checkpoints(source, home)}
    if not checkpoints:
        raise ModelError(f"{Path(source.name) / home} has no fold_*/{FINAL}; train a fold to its end, or copy it again")
    named = shown.split("__")
    if len(named) == 3:
        configuration = named[2]
    else:
        path = next(iter(checkpoints.values()))
        configuration = read_checkpoint(source.read(path), str(Path(source.name) / path)).configuration
    check_name(configuration, "configuration")
    return FoundModel(folder=home, configuration=configuration, folds=checkpoints)


def _checkpoints(source: ModelSource, home: PurePosixPath) -> list[PurePosixPath]:
    """Of each fold the final checkpoint, or the best one where there is no final one."""
    own = [path for path in source.sizes if path.parent.parent == home and FOLD_FILE.search(str(path))]
    # "best" sorts before "final", so the later entry of a fold replaces it; folds by number, "all" last.
    return sorted(own, key=lambda path: (path.parent.name == "fold_all", len(path.parent.name), path))


def _find_feeder(source: ModelSource, model: FoundModel, found: Sequence[FoundModel]) -> FoundModel:
    """The model, and if it is a cascade with the one that feeds it: the same trainer and plans, its previous stage."""
    where = str(Path(source.name) / model.folder / "plans.json")
    plans = read_plans(source.read(model.folder / "plans.json"), where)
    stage = read_configuration(plans, model.configuration, where).previous_stage
    if stage is None:
        return model
    wanted = f"{model.folder.name.rpartition('__')[0]}__{stage}"
    for other in found:
        if other.configuration == stage and other.folder == model.folder.with_name(wanted):
            return replace(model, feeder=other)
    raise ModelError(
        f"{Path(source.name) / model.folder} is a cascade, fed by {stage}, but {source.name} holds no {wanted} beside "
        f"it; give the folder above both or a zip with both, or choose another configuration with -c"
    )


def _tell_unfinished(model: FoundModel) -> None:
    for fold, path in model.folds.items():
        if path.name != FINAL:
            log.warning("%s: fold %s has no %s, so %s is taken", model.configuration, fold, FINAL, path.name)


def _check_belongs(checkpoint: Checkpoint, model: FoundModel) -> None:
    if checkpoint.configuration != model.configuration:
        raise ModelError(
            f"{checkpoint.where} is of configuration {checkpoint.configuration}, but its folder says "
            f"{model.configuration}; put it where it belongs"
        )
