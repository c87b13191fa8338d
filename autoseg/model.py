"""A trained model: plan, configuration and the networks of its folds, in a folder that can be copied anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from autoseg.core.errors import ModelError
from autoseg.core.records import Configuration, Plan
from autoseg.core.store import read_record, subfolders, write_bytes, write_record
from autoseg.networks import build_network

PLAN = "plan.json"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Model:
    """Everything a prediction needs.

    Attributes:
        name: ``<dataset>/<configuration>``.
        plan: with the configuration inside.
        configuration: the one that was trained.
        folds: names of the folds, as ``networks``.
        networks: one per fold, in evaluation mode, without deep heads.
    """

    name: str
    plan: Plan
    configuration: Configuration
    folds: tuple[str, ...]
    networks: tuple[nn.Module, ...]


def fold_folder(folder: Path, fold: str) -> Path:
    """Where a fold lies in a model folder."""
    return folder / f"fold_{fold}"


def trained_folds(folder: Path) -> tuple[str, ...]:
    """Names of the folds of a model folder whose training is finished."""
    names = (name.removeprefix("fold_") for name in subfolders(folder) if name.startswith("fold_"))
    return tuple(name for name in names if (fold_folder(folder, name) / WEIGHTS).exists())


def planned_network(plan: Plan, configuration: Configuration, *, seed: int) -> nn.Module:
    """The configuration's network for the plan's channels and outputs, freshly initialised from the seed."""
    return build_network(
        configuration.network,
        dimensions=configuration.dimensions,
        input_channels=len(plan.channels),
        output_channels=len(plan.outputs.values),
        seed=seed,
    )


def save_plan(folder: Path, plan: Plan) -> None:
    """Write the plan that makes a model folder self-contained."""
    write_record(folder / PLAN, plan)


def load_plan(folder: Path) -> Plan:
    """The plan of a model folder.

    Raises:
        PlanError: missing or wrong.
    """
    return read_record(Plan, folder / PLAN, remedy="copy the whole model folder again, or train again with --restart")


def save_weights(folder: Path, fold: str, weights: Mapping[str, torch.Tensor]) -> None:
    """Write a fold's weights as safetensors: tensors and nothing else."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    write_bytes(fold_folder(folder, fold) / WEIGHTS, save_tensors(tensors))


def load_model(folder: Path, folds: Sequence[str] | None, device: torch.device) -> Model:
    """Open a model folder.

    Args:
        folder: ``autoseg_results/<dataset>/<configuration>``.
        folds: names of folds, or None for all that are trained.

    Raises:
        ModelError: no fold is trained, one asked for is missing, or weights do not fit the plan.
    """
    plan = load_plan(folder)
    name = folder.name
    if name not in plan.configurations:
        known = ", ".join(plan.configurations)
        raise ModelError(f"{folder} is named '{name}', but its plan holds {known}; give the folder its own name back")
    configuration = plan.configurations[name]
    trained = trained_folds(folder)
    chosen = tuple(trained if folds is None else folds)
    if not chosen:
        raise ModelError(
            f"{folder} has no trained fold (no fold_*/{WEIGHTS}); finish training: "
            f"autoseg_train -d {folder.parent.name} -c {name} -f 0"
        )
    missing = [fold for fold in chosen if fold not in trained]
    if missing:
        known = ", ".join(trained) or "none"
        raise ModelError(f"{folder} has no trained fold {', '.join(missing)}; trained are: {known}")
    networks = tuple(_load_network(folder, fold, plan, configuration, device) for fold in chosen)
    return Model(
        name=f"{folder.parent.name}/{name}", plan=plan, configuration=configuration, folds=chosen, networks=networks
    )


def _load_network(folder: Path, fold: str, plan: Plan, configuration: Configuration, device: torch.device) -> nn.Module:
    path = fold_folder(folder, fold) / WEIGHTS
    network = planned_network(plan, configuration, seed=0)
    try:
        network.load_state_dict(load_tensors(path.read_bytes()))
    except safetensors.SafetensorError as error:
        raise ModelError(f"{path} is damaged ({error}); copy it again, or train the fold again") from error
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip()
        message = f"{path} does not fit the network in {folder / PLAN} ({first}); they do not belong together"
        raise ModelError(message) from error
    network.deep_supervision = False  # type: ignore[assignment]
    return network.eval().to(device)
