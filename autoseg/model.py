"""A trained model: plan, configuration and the networks of its folds, in a folder that can be copied anywhere."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from autoseg.core.devices import shortage_as_error
from autoseg.core.errors import ModelError, StorageError
from autoseg.core.records import Configuration, Plan
from autoseg.core.store import (
    explain_write_error,
    hidden_beside,
    read_record,
    replacing,
    sha256,
    subfolders,
    write_bytes,
    write_record,
)
from autoseg.networks import build_network

PLAN = "plan.json"
WEIGHTS = "model.safetensors"
POSTPROCESSING = "postprocessing.json"


@dataclass(frozen=True, kw_only=True)
class Model:
    """Everything a prediction needs.

    Attributes:
        name: ``<dataset>/<configuration>``.
        plan: with the configuration inside.
        configuration: the one that was trained.
        folds: names of the folds, as ``networks``.
        networks: one per fold, in evaluation mode, without deep heads.
        source: of a cascade, the model whose mask is an input too; None otherwise.
    """

    name: str
    plan: Plan
    configuration: Configuration
    folds: tuple[str, ...]
    networks: tuple[nn.Module, ...]
    source: Model | None = None

    @property
    def mask_values(self) -> tuple[tuple[int, ...], ...]:
        """The label values of each mask channel; empty but in a cascade."""
        return self.plan.mask_values(self.name.rpartition("/")[2])


def fold_folder(folder: Path, fold: str) -> Path:
    """Folder of a fold in a model folder."""
    return folder / f"fold_{fold}"


def trained_folds(folder: Path) -> tuple[str, ...]:
    """Names of the folds of a model folder whose training is finished."""
    names = (name.removeprefix("fold_") for name in subfolders(folder) if name.startswith("fold_"))
    return tuple(name for name in names if (fold_folder(folder, name) / WEIGHTS).exists())


def planned_network(plan: Plan, name: str, *, seed: int) -> nn.Module:
    """A configuration's network for the plan's channels and outputs, freshly initialised from the seed."""
    configuration = plan.configurations[name]
    return build_network(
        configuration.network,
        dimensions=configuration.dimensions,
        input_channels=plan.count_inputs(name),
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
    return read_record(Plan, folder / PLAN, advice="copy the whole model folder again, or train again with --restart")


def save_weights(folder: Path, fold: str, weights: Mapping[str, torch.Tensor]) -> None:
    """Write a fold's weights as safetensors: tensors and nothing else."""
    write_bytes(fold_folder(folder, fold) / WEIGHTS, pack_weights(weights))


def pack_weights(weights: Mapping[str, torch.Tensor]) -> bytes:
    """Weights as the bytes of a safetensors file; equal weights give equal bytes."""
    return save_tensors({name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(weights.items())})


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ModelError: it is damaged, or a weight is not finite.
    """
    try:
        weights = load_tensors(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise ModelError(f"{path} is damaged ({error}); copy it again, or train again") from error
    wrong = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if wrong:
        raise ModelError(f"{path} holds weights that are NaN or infinite ({wrong[0]}); copy it again, or train again")
    return weights


def copy_model(source: Path, target: Path, folds: Sequence[str] | None = None) -> None:
    """Copy a model folder's plan and the weights of its trained folds; existing folds stay.

    A new copy appears when it is complete, and so does every added fold.

    Args:
        source: the model folder.
        target: folder of the copy.
        folds: names of trained ones; None for all.
    """
    if (target / PLAN).exists():
        for fold in trained_folds(source) if folds is None else folds:
            weights = fold_folder(target, fold) / WEIGHTS
            if not weights.exists():
                with replacing(weights) as temporary:
                    shutil.copyfile(fold_folder(source, fold) / WEIGHTS, temporary)
        return
    temporary_folder = hidden_beside(target)  # folds may start in parallel
    try:
        save_plan(temporary_folder, load_plan(source))
        copy_model(source, temporary_folder, folds)
        if not (target / PLAN).exists():
            shutil.rmtree(target, ignore_errors=True)  # a folder without a plan is not a model
            temporary_folder.replace(target)
    except OSError as error:
        if not (target / PLAN).exists():  # else another training wrote it first
            raise StorageError(explain_write_error(target, error)) from error
    finally:
        shutil.rmtree(temporary_folder, ignore_errors=True)


def changed_folds(source: Path, target: Path) -> tuple[str, ...]:
    """Names of the folds of both model folders whose weights differ."""
    shared = [fold for fold in trained_folds(source) if fold in trained_folds(target)]
    pairs = {fold: (fold_folder(source, fold) / WEIGHTS, fold_folder(target, fold) / WEIGHTS) for fold in shared}
    return tuple(
        fold
        for fold, (source_weights, target_weights) in pairs.items()
        if sha256(source_weights) != sha256(target_weights)
    )


def load_model(folder: Path, folds: Sequence[str] | None, device: torch.device) -> Model:
    """Open a model folder, and of a cascade the copy of its first stage inside.

    Args:
        folder: ``autoseg_results/<dataset>/<configuration>``.
        folds: names of folds, or None for all that are trained; a cascade's source is always opened with all.

    Raises:
        ModelError: no fold is trained, a requested one is missing, or weights do not fit the plan; or a cascade's
            source is missing or does not fit.
        MemoryShortageError: the device does not hold the networks.
    """
    plan = load_plan(folder)
    name = folder.name
    if name not in plan.configurations:
        names = ", ".join(plan.configurations)
        raise ModelError(f"{folder} is named '{name}', but its plan holds {names}; give the folder its own name back")
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
        names = ", ".join(trained) or "none"
        raise ModelError(f"{folder} has no trained fold {', '.join(missing)}; choose from: {names}")
    return Model(
        name=f"{folder.parent.name}/{name}",
        plan=plan,
        configuration=configuration,
        folds=chosen,
        networks=tuple(_load_network(folder, fold, plan, name, device) for fold in chosen),
        source=None if configuration.cascade_from is None else _load_source(folder, plan, name, device),
    )


def _load_source(folder: Path, plan: Plan, name: str, device: torch.device) -> Model:
    """First stage of a cascade, from the copy in the cascade's folder."""
    source = plan.configurations[name].cascade_from or ""
    advice = f"copy the whole folder again, or run: autoseg_train -d {plan.dataset} -c {name} -f 0"
    if not trained_folds(folder / source):
        raise ModelError(f"{folder} is a cascade, but lacks its first stage '{source}'; {advice}")
    model = load_model(folder / source, None, device)
    if not have_same_channels(model.plan, plan):
        raise ModelError(f"{folder / source} has other channels, labels or regions than {folder / PLAN}; {advice}")
    return model


def have_same_channels(first: Plan, second: Plan) -> bool:
    """Whether two plans have the same channels and outputs."""
    return (first.channels, first.outputs, first.regions) == (second.channels, second.outputs, second.regions)


def _load_network(folder: Path, fold: str, plan: Plan, name: str, device: torch.device) -> nn.Module:
    path = fold_folder(folder, fold) / WEIGHTS
    network = planned_network(plan, name, seed=0)
    try:
        network.load_state_dict(read_weights(path))
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip()
        message = f"{path} does not fit the network in {folder / PLAN} ({first}); copy the whole model folder again"
        raise ModelError(message) from error
    network.deep_supervision = False  # type: ignore[assignment]
    with shortage_as_error(device, f"the networks of {name}; use --device cpu, or close other programs on it"):
        return network.eval().to(device)
