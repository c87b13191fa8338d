"""``autoseg_plan --pretrained``: configurations with initial weights from another model, adapted once and stored."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoseg.core.errors import AutosegError, PlanError, UsageError
from autoseg.core.records import Configuration, MemoryFacts, Plan, TransferSettings
from autoseg.core.store import Store, read_record, sha256, subfolders
from autoseg.folds.transfer_files import InitialWeights, initial_weights_folder
from autoseg.model import pack_weights, trained_folds
from autoseg.networks import build_network, find_parts, network_traits
from autoseg.options import PlanOptions
from autoseg.planning import price_step
from autoseg.transfer.adapting import adapt_weights, check_share, describe_report
from autoseg.transfer.configuring import TransferConfiguration, fit_configuration
from autoseg.transfer.sources import (
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
DEFAULT_SHARE = 0.5  # of the parameters, loaded or adapted


def add_transfers(store: Store, plan: Plan, options: PlanOptions) -> tuple[Plan, tuple[InitialWeights, ...]]:
    """Add configurations with initial weights from a model, as requested or as in the previous plan.

    Args:
        plan: new.
        options: without ``pretrained``, those of the previous plan are kept.

    Raises:
        UsageError: there is no such model.
        ModelError: it cannot be read, or too little of it fits.
    """
    if options.pretrained is None:
        return _keep_previous(store, plan), ()
    if options.pretrained == NONE:
        return plan, ()
    transferred: dict[str, Configuration] = {}
    reasons, memory = dict(plan.reasons), dict(plan.memory)
    initial_weights, failures = [], []
    least_share = DEFAULT_SHARE if options.least_share is None else options.least_share
    sources = find_sources(store, options.pretrained, plan)
    for base in _choose_bases(plan, sources):
        name = f"{base}{SUFFIX}"
        try:
            fitted, initial = _transfer(plan, base, _choose_source(plan, base, sources), least_share)
        except AutosegError as error:
            failures.append((name, error))
            continue
        settings = TransferSettings(
            source=options.pretrained,
            weights=initial.file,
            digest=sha256(initial.content),
            mode=options.mode or "full",
            least_share=least_share,
        )
        transferred[name] = fitted.configuration.model_copy(update={"transfer": settings})
        initial_weights.append(initial)
        log.info("%s", describe_report(initial.report))
        reasons |= {f"{name}.{key}": reason for key, reason in fitted.reasons.items()}
        reasons[f"{name}.transfer"] = f"{describe_report(initial.report)}."
        memory[name] = fitted.memory
        if options.with_scratch_twin:
            transferred[f"{name}{TWIN}"] = fitted.configuration
            reasons |= {f"{name}{TWIN}.{key}": reason for key, reason in fitted.reasons.items()}
            reasons[f"{name}{TWIN}.transfer"] = f"As {name}, but with random weights, for comparison."
            memory[f"{name}{TWIN}"] = fitted.memory
    if not transferred:
        raise failures[0][1]
    for name, failure in failures:
        log.warning("%s is skipped: %s", name, failure)
    if not options.replace:
        _check_previous(store, plan.dataset, transferred)
    return _extend(plan, transferred, reasons, memory), tuple(initial_weights)


def find_sources(store: Store, name: str, plan: Plan) -> tuple[TransferSource, ...]:
    """Models of that name or path.

    Raises:
        UsageError: there is nothing of that name.
        ModelError: it cannot be read.
    """
    path = Path(name).expanduser()
    if path.is_file() and not (path.suffix == ".zip" or (zipfile.is_zipfile(path) and _holds_plans(path))):
        return read_weights_file(path, name, plan)
    for folder in (path, store.root / name, store.results_root / name):
        model_folder = find_own_model(folder)
        if model_folder is not None:
            return (read_own_model(model_folder, name),)
    if path.exists():
        try:
            return read_nnunet_models(path, name)
        except UsageError as error:
            raise UsageError(
                f"--pretrained: {name} is not a model folder of autoseg (no plan.json), and {error}"
            ) from error
    trained = [
        f"{dataset}/{configuration}"
        for dataset in subfolders(store.results_root)
        for configuration in subfolders(store.results_root / dataset)
        if trained_folds(store.results_root / dataset / configuration)
    ]
    raise UsageError(
        f"--pretrained: '{name}' is not a file, folder or trained model; trained models: {', '.join(trained) or 'none'}"
    )


def _holds_plans(path: Path) -> bool:
    """Whether a zip holds models of nnU-Net; torch's files are zips, too."""
    with zipfile.ZipFile(path) as archive:
        return any(name.rpartition("/")[2] == "plans.json" for name in archive.namelist())


def _choose_bases(plan: Plan, sources: Sequence[TransferSource]) -> list[str]:
    """Planned configurations that can be initialised from one of the models."""
    named = [source.only_for for source in sources if source.only_for is not None]
    return named or [base for base in BASES if base in plan.configurations]


def _choose_source(plan: Plan, base: str, sources: Sequence[TransferSource]) -> TransferSource:
    """The model of the configuration's dimensions, else one that can be adapted to them."""
    dimensions = plan.configurations[base].dimensions
    same = [source for source in sources if source.only_for in (None, base) and source.dimensions == dimensions]
    chosen = same[0] if same else sources[0]
    exists = network_traits(chosen.network.name).dimensions
    if dimensions not in exists:
        raise PlanError(f"network '{chosen.network.name}' exists in {exists[0]}D only")
    return chosen


def _transfer(
    plan: Plan, base: str, source: TransferSource, least_share: float
) -> tuple[TransferConfiguration, InitialWeights]:
    name = f"{base}{SUFFIX}"
    fitted = fit_configuration(plan, base, source, cost=price_step)
    configuration = fitted.configuration
    counts = {"input_channels": plan.count_inputs(base), "output_channels": len(plan.outputs.values)}
    network = build_network(configuration.network, dimensions=configuration.dimensions, seed=0, **counts)
    adapted = adapt_weights(
        source.model,
        network,
        find_parts(configuration.network, dimensions=configuration.dimensions, **counts),
        configuration=name,
        channels=plan.input_names(base),
        outputs=counts["output_channels"],
        overlap=plan.outputs.overlap,
    )
    check_share(adapted.report, least_share)
    return fitted, InitialWeights(
        file=f"{name}.safetensors", content=pack_weights(adapted.weights), report=adapted.report
    )


def _check_previous(store: Store, dataset_name: str, transferred: Mapping[str, Configuration]) -> None:
    """Refuse to drop a twin, or to plan a configuration again that is trained, unless it is said.

    Raises:
        UsageError: one of them would happen.
    """
    try:
        previous = read_record(Plan, store.preprocessed(dataset_name) / "plan.json", advice="").configurations
    except PlanError:
        return
    dropped = [name + TWIN for name in transferred if name + TWIN in previous and name + TWIN not in transferred]
    trained = [
        name
        for name, configuration in transferred.items()
        if previous.get(name, configuration) != configuration and trained_folds(store.results(dataset_name, name))
    ]
    if dropped:
        raise UsageError(
            f"--pretrained would drop {', '.join(dropped)} from the plan; keep it with --with-scratch-twin, or drop it "
            f"with --replace"
        )
    if trained:
        raise UsageError(
            f"--pretrained would plan {', '.join(trained)} with other initial weights than its trained folds had; "
            f"keep the plan, or replace it with --replace and train again with --restart"
        )


def _keep_previous(store: Store, plan: Plan) -> Plan:
    """The plan with the transfers that the plan on disk has, where their weights exist and still fit."""
    try:
        previous = read_record(Plan, store.preprocessed(plan.dataset) / "plan.json", advice="")
    except PlanError:
        return plan
    folder = initial_weights_folder(store, plan.dataset)
    names = [name for name, c in previous.configurations.items() if c.transfer is not None and name.endswith(SUFFIX)]
    if not names:
        return plan
    command = f"autoseg_plan -d {plan.dataset} --pretrained"
    if (previous.channels, previous.labels, previous.regions) != (plan.channels, plan.labels, plan.regions):
        log.warning("%s are dropped: channels or labels have changed; plan them again with: %s", names, command)
        return plan
    transferred: dict[str, Configuration] = {}
    for name in names:
        settings = previous.configurations[name].transfer
        assert settings is not None
        path = folder / (settings.weights or "")
        if not path.exists():
            log.warning("%s is dropped: %s is missing; plan it again with: %s", name, path, command)
            continue
        transferred |= {key: c for key, c in previous.configurations.items() if key in (name, name + TWIN)}
    if not transferred:
        return plan
    log.info("%s are unchanged; --pretrained plans them again, --pretrained none drops them", ", ".join(transferred))
    reasons = {key: reason for key, reason in previous.reasons.items() if key.partition(".")[0] in transferred}
    memory = {name: facts for name, facts in previous.memory.items() if name in transferred}
    return _extend(plan, transferred, {**plan.reasons, **reasons}, {**plan.memory, **memory})


def _extend(
    plan: Plan, transferred: dict[str, Configuration], reasons: dict[str, str], memory: dict[str, MemoryFacts]
) -> Plan:
    extended = plan.model_copy(
        update={"configurations": {**plan.configurations, **transferred}, "reasons": reasons, "memory": memory}
    )
    return Plan.model_validate(extended.model_dump(by_alias=True))
