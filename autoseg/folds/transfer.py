"""``autoseg_plan --pretrained``: configurations that begin with another model's weights, adapted once and kept."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path

from autoseg.core.errors import AutosegError, PlanError, UsageError
from autoseg.core.records import Configuration, MemoryFacts, Plan, TransferSettings
from autoseg.core.store import Store, read_record, sha256, subfolders
from autoseg.folds.transfer_files import Start, TransferOptions, starts_folder
from autoseg.model import pack_weights, trained_folds
from autoseg.networks import build_network, find_parts, network_traits
from autoseg.planning import price_step
from autoseg.transfer.adapting import adapt_weights, check_share, describe_report
from autoseg.transfer.configuring import TransferConfiguration, fit_configuration
from autoseg.transfer.origins import (
    TransferSource,
    find_own_model,
    read_nnunet_models,
    read_own_model,
    read_weights_file,
)

log = logging.getLogger(__name__)

SUFFIX, TWIN = "_transfer", "_scratch"
BASES = ("3d", "2d")
NONE = "none"


def add_transfers(store: Store, plan: Plan, wanted: TransferOptions | None) -> tuple[Plan, tuple[Start, ...]]:
    """The plan with configurations that begin with a model, as asked for or as before.

    Args:
        plan: made anew.
        wanted: None keeps those that were planned before.

    Raises:
        UsageError: there is no such model.
        ModelError: it cannot be read, or too little of it fits.
    """
    if wanted is None:
        return _keep_former(store, plan), ()
    if wanted.source == NONE:
        return plan, ()
    made: dict[str, Configuration] = {}
    reasons, memory = dict(plan.reasons), dict(plan.memory)
    starts, failures = [], []
    origins = find_origins(store, wanted.source, plan)
    for base in _choose_bases(plan, origins):
        name = f"{base}{SUFFIX}"
        try:
            fitted, start = _transfer(plan, base, _choose_origin(plan, base, origins), wanted)
        except AutosegError as error:
            failures.append((name, error))
            continue
        settings = TransferSettings(
            source=wanted.source,
            weights=start.file,
            digest=sha256(start.content),
            mode=wanted.mode,
            least_share=wanted.least_share,
        )
        made[name] = fitted.configuration.model_copy(update={"transfer": settings})
        starts.append(start)
        log.info("%s", describe_report(start.report))
        reasons |= {f"{name}.{key}": why for key, why in fitted.reasons.items()}
        reasons[f"{name}.transfer"] = f"{describe_report(start.report)}."
        memory[name] = fitted.memory
        if wanted.twin:
            made[f"{name}{TWIN}"] = fitted.configuration
            reasons |= {f"{name}{TWIN}.{key}": why for key, why in fitted.reasons.items()}
            reasons[f"{name}{TWIN}.transfer"] = f"As {name}, but all weights begin at random; what is gained is shown."
            memory[f"{name}{TWIN}"] = fitted.memory
    if not made:
        raise failures[0][1]
    for name, failure in failures:
        log.warning("%s is left out: %s", name, failure)
    return _extend(plan, made, reasons, memory), tuple(starts)


def find_origins(store: Store, said: str, plan: Plan) -> tuple[TransferSource, ...]:
    """The models that a user's words mean.

    Raises:
        UsageError: there is nothing of that name.
        ModelError: it cannot be read.
    """
    path = Path(said).expanduser()
    if path.is_file() and not (path.suffix == ".zip" or (zipfile.is_zipfile(path) and _holds_plans(path))):
        return read_weights_file(path, said, plan)
    for folder in (path, store.root / said, store.results_root / said):
        own = find_own_model(folder)
        if own is not None:
            return (read_own_model(own, said),)
    if path.exists():
        try:
            return read_nnunet_models(path, said)
        except UsageError as error:
            raise UsageError(
                f"--pretrained: {said} is no model folder of autoseg's (no plan.json), and {error}"
            ) from error
    known = [
        f"{dataset}/{name}"
        for dataset in subfolders(store.results_root)
        for name in subfolders(store.results_root / dataset)
        if trained_folds(store.results_root / dataset / name)
    ]
    raise UsageError(
        f"--pretrained: '{said}' is no file or folder, and no trained model; trained are: {', '.join(known) or 'none'}"
    )


def _holds_plans(path: Path) -> bool:
    """Whether a zip holds models of nnU-Net's; torch's own files are zips, too."""
    with zipfile.ZipFile(path) as archive:
        return any(name.rpartition("/")[2] == "plans.json" for name in archive.namelist())


def _choose_bases(plan: Plan, origins: Sequence[TransferSource]) -> list[str]:
    """The planned configurations that can begin with one of the models."""
    own = [origin.only_for for origin in origins if origin.only_for is not None]
    return own or [base for base in BASES if base in plan.configurations]


def _choose_origin(plan: Plan, base: str, origins: Sequence[TransferSource]) -> TransferSource:
    """The model of the configuration's own dimensions, else one that can be brought to them."""
    dimensions = plan.configurations[base].dimensions
    own = [origin for origin in origins if origin.only_for in (None, base) and origin.dimensions == dimensions]
    chosen = own[0] if own else origins[0]
    exists = network_traits(chosen.network.name).dimensions
    if dimensions not in exists:
        raise PlanError(f"network '{chosen.network.name}' exists in {exists[0]}D only")
    return chosen


def _transfer(
    plan: Plan, base: str, origin: TransferSource, wanted: TransferOptions
) -> tuple[TransferConfiguration, Start]:
    name = f"{base}{SUFFIX}"
    fitted = fit_configuration(plan, base, origin, cost=price_step)
    configuration = fitted.configuration
    counts = {"input_channels": plan.count_inputs(base), "output_channels": len(plan.outputs.values)}
    network = build_network(configuration.network, dimensions=configuration.dimensions, seed=0, **counts)
    adapted = adapt_weights(
        origin.giver,
        network,
        find_parts(configuration.network, dimensions=configuration.dimensions, **counts),
        configuration=name,
        channels=plan.channels,
        outputs=counts["output_channels"],
        overlap=plan.outputs.overlap,
    )
    check_share(adapted.report, wanted.least_share)
    return fitted, Start(file=f"{name}.safetensors", content=pack_weights(adapted.weights), report=adapted.report)


def _keep_former(store: Store, plan: Plan) -> Plan:
    """The plan with the transfers that the plan on disk has, while their weights are there and still fit."""
    try:
        before = read_record(Plan, store.preprocessed(plan.dataset) / "plan.json", advice="")
    except PlanError:
        return plan
    folder = starts_folder(store, plan.dataset)
    names = [name for name, c in before.configurations.items() if c.transfer is not None and name.endswith(SUFFIX)]
    if not names:
        return plan
    again = f"autoseg_plan -d {plan.dataset} --pretrained"
    if (before.channels, before.labels, before.regions) != (plan.channels, plan.labels, plan.regions):
        log.warning("%s are dropped: channels or labels have changed; make them anew with: %s", names, again)
        return plan
    made: dict[str, Configuration] = {}
    for name in names:
        settings = before.configurations[name].transfer
        assert settings is not None
        if not (folder / settings.weights).exists():
            log.warning("%s is dropped: %s is gone; make it anew with: %s", name, folder / settings.weights, again)
            continue
        made |= {own: before.configurations[own] for own in (name, name + TWIN) if own in before.configurations}
    if not made:
        return plan
    log.info("%s stay as they were; --pretrained makes them anew, --pretrained none drops them", ", ".join(made))
    reasons = {key: why for key, why in before.reasons.items() if key.partition(".")[0] in made}
    memory = {name: facts for name, facts in before.memory.items() if name in made}
    return _extend(plan, made, {**plan.reasons, **reasons}, {**plan.memory, **memory})


def _extend(
    plan: Plan, made: dict[str, Configuration], reasons: dict[str, str], memory: dict[str, MemoryFacts]
) -> Plan:
    extended = plan.model_copy(
        update={"configurations": {**plan.configurations, **made}, "reasons": reasons, "memory": memory}
    )
    return Plan.model_validate(extended.model_dump(by_alias=True))
