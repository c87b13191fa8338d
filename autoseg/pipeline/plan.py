"""Plan a dataset: measure it, choose configurations, split the cases into folds and preprocess them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from autoseg.core.choices import PresetName
from autoseg.core.errors import MemoryShortageError, PlanError, UsageError
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Dataset, Fingerprint, Folds, MachineSpeed, Plan
from autoseg.core.runs import RUN, Run, recorded
from autoseg.core.store import Store, read_record
from autoseg.datasets import log_left_out
from autoseg.folds.transfer_files import InitialWeights, initial_weights_folder, remove_stale
from autoseg.options import PlanOptions, command_line
from autoseg.planning import add_recipes, check_sites, make_plan, price_step
from autoseg.planning.presets import check_class_weights, find_preset, recommended_residual
from autoseg.planning.recipes import STAND_IN, read_recipe
from autoseg.planning.text import count
from autoseg.planning.time import TimeBudget
from autoseg.preparation.arrays import prepare_arrays
from autoseg.preparation.edits import Edited, PendingFile, advice, check_plan, resolve_edits
from autoseg.preparation.measuring import measure_dataset
from autoseg.preparation.raw import LEFT_OUT, case_key, leave_out, list_all_files, open_raw, write_left_out
from autoseg.preparation.splits import FoldOptions, import_folds, resolve_folds

log = logging.getLogger(__name__)
SEED = 12345
COMPATIBLE = " as nnU-Net plans"
LEAST_USED_GB = 0.5  # on a card; less is its driver's


@dataclass(frozen=True, kw_only=True)
class PlanningResult:
    """Result of planning: measurements, decisions and folds."""

    fingerprint: Fingerprint
    plan: Plan
    folds: Folds


@dataclass(frozen=True, kw_only=True)
class PlanTarget:
    """The options that shape a plan, with every default resolved.

    Attributes:
        preset: table of numbers to start from.
        memory_gb: budget of a training step.
        card_reason: one or two sentences on the card that the budget comes from, or None.
        compat: ``nnunet`` makes every choice as nnU-Net makes it.
        networks: further networks, each with configurations of its own.
        recipes: published systems, each a configuration.
        class_weights: ``frequency`` weights the classes of every loss by it.
        time_budget_s: of one fold's training; None for the preset's length.
        speed: as measured for an existing plan, or None.
        probe: device (``cpu``, ``cuda``) to try training steps on, or None.
    """

    preset: PresetName
    memory_gb: float
    card_reason: str | None = None
    compat: Literal["nnunet"] | None = None
    networks: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    class_weights: Literal["frequency"] | None = None
    time_budget_s: float | None = None
    speed: MachineSpeed | None = None
    probe: str | None = None

    def describe(self) -> str:
        """Preset and budget in one clause."""
        return f"preset {self.preset}{COMPATIBLE if self.compat else ''} for {self.memory_gb:.3g} GB"


def plan(store: Store, options: PlanOptions, *, progress: Progress = no_progress) -> PlanningResult:
    """Measure a dataset, plan its configurations, split it into folds and preprocess it; finished steps are not redone.

    Raises:
        CasesError: some cases are bad; facts and arrays of the others are kept for the next run.
        PlanError: a file of folds is wrong; the plan was edited by hand, and neither ``keep`` nor ``replace`` is given;
            or it was edited wrongly.
        UsageError, ModelError: the source of initial weights does not exist, cannot be read, or does not fit; or
            options that contradict each other.
    """
    path = None if options.dry_run else store.preprocessed(options.dataset) / RUN
    with recorded(store, path, ("autoseg_plan", *command_line(options))) as run:
        return _plan(store, options, run, progress)


def _plan(store: Store, options: PlanOptions, run: Run, progress: Progress) -> PlanningResult:
    name, dry_run, workers = options.dataset, options.dry_run, options.workers
    target = resolve_target(store, options)
    fold_options = FoldOptions(
        file=options.folds_file, count=options.fold_count, leave_one_site_out=options.leave_one_site_out
    )
    edited: Edited = "keep" if options.keep else "replace" if options.replace else "refuse"
    if options.pretrained is not None and edited == "keep":
        raise UsageError("--pretrained plans configurations, and --keep uses the plan unchanged; leave one of them out")
    dataset, folder = open_raw(store, name, retry_skipped=True), store.preprocessed(name)
    # Everything that can be refused is refused before the measurements, which take long.
    sites = {case.id: case.site for case in dataset.cases if case.labels}
    imported = None if fold_options.file is None else import_folds(fold_options.file, set(sites))
    if fold_options.leave_one_site_out:
        check_sites(sites, name)

    keys = {case.id: case_key(dataset, case) for case in dataset.cases}
    fingerprint, bad = measure_dataset(
        dataset,
        folder,
        keys,
        workers,
        progress,
        write=not dry_run,
        skip_bad=options.skip_bad,
        accept_spacing=options.accept_spacing,
    )
    dataset = leave_out(dataset, bad)
    log_left_out(dataset.model_copy(update={"left_out": bad}))
    pending_plan, initial_weights = _resolve_plan(store, dataset, fingerprint, target, options, edited, progress)
    pending_folds = resolve_folds(folder / "folds.json", fingerprint, fold_options, imported, edited, seed=SEED)
    result = PlanningResult(fingerprint=fingerprint, plan=pending_plan.record, folds=pending_folds.record)
    if dry_run:
        pending_plan.log_change()
        pending_folds.log_change()
        return result

    # Nothing is written before this line, so that a refusal changes nothing.
    run.begin()
    run.add_files(name, list_all_files(dataset))
    write_left_out(folder / LEFT_OUT, bad, keys)
    for weights in initial_weights:  # before the plan that names them
        weights.write(initial_weights_folder(store, name))
    pending_plan.write()
    pending_folds.write()
    remove_stale(initial_weights_folder(store, name), result.plan)
    prepare_arrays(dataset, folder, result.plan, fingerprint, keys, workers, progress)
    run.add_model(folder)
    return result


def resolve_target(store: Store, options: PlanOptions) -> PlanTarget:
    """The options with their defaults: from the existing plan, else from the machine; logged in one line.

    Raises:
        UsageError: ``--device cuda`` where torch finds no GPU, without ``--memory``; nnU-Net has no such preset; an
            unknown network or recipe; or class weights in a plan as nnU-Net makes it.
    """
    # These import torch, which workers of a plan never need.
    from autoseg.core.devices import gpu_memory_gb
    from autoseg.folds.probing import choose_probe
    from autoseg.networks import network_traits

    existing = _existing_target(store, options.dataset)
    gpu_gb = None if options.device == "cpu" else gpu_memory_gb()
    target = _resolve_preset(existing, options, gpu_gb)
    for network in options.networks:
        if network != "none":
            network_traits(network)  # in the table and installed, or an error before anything is measured
    for recipe in options.recipes:
        if recipe != "none":
            read_recipe(recipe)
    class_weights = existing.class_weights if existing is not None else None
    if options.class_weights is not None:
        class_weights = "frequency" if options.class_weights == "frequency" else None
    time_budget_s = existing.time_budget_s if existing is not None else None
    if options.time_budget_s is not None:
        time_budget_s = None if options.time_budget_s == "none" else options.time_budget_s
    if not options.keep:
        check_class_weights(class_weights, target.compat)
        if time_budget_s is not None and target.compat is not None:
            raise UsageError("nnU-Net plans for no time; use --time-budget none or --compat none")
        if time_budget_s is not None and gpu_gb is None and find_preset(target.preset).for_gpu:
            raise UsageError(
                f"--time-budget times real steps, and torch finds no GPU here for preset {target.preset}; plan on the "
                f"machine that trains, or use --preset pocket"
            )
    return replace(
        target,
        networks=_extend(() if existing is None else existing.networks, options.networks),
        recipes=_extend(() if existing is None else existing.recipes, options.recipes),
        class_weights=class_weights,
        time_budget_s=time_budget_s,
        speed=None if existing is None else existing.speed,
        probe=choose_probe(options.probe, options.device, memory_gb=target.memory_gb, gpu_gb=gpu_gb),
    )


def _extend(existing: Sequence[str], added: Sequence[str]) -> tuple[str, ...]:
    """The existing names and the added ones, each once; ``none`` drops the existing ones."""
    previous = () if "none" in added else existing
    return tuple(dict.fromkeys([*previous, *(name for name in added if name != "none")]))


def _resolve_preset(existing: PlanTarget | None, options: PlanOptions, gpu_gb: float | None) -> PlanTarget:
    """Preset, budget and compatibility."""
    preset, memory_gb, compat = options.preset, options.memory_gb, options.compat
    if options.device == "cuda" and gpu_gb is None and memory_gb is None:
        raise UsageError("--device cuda: torch finds no GPU on this machine; use --memory GB to plan for another")
    if options.keep and existing is not None:  # nothing is planned
        return existing
    if existing is not None and preset is None and options.device == "auto":
        compat = compat or existing.compat or "none"
        if memory_gb is None and compat == (existing.compat or "none"):
            log.info("planning as before: %s", existing.describe())
            return existing
        if existing.compat is not None:  # its preset exists with and without compatibility
            preset, memory_gb = existing.preset, memory_gb or existing.memory_gb
    if existing is not None and existing.compat and compat != "nnunet":
        log.info("no longer nnU-Net-compatible; use --compat nnunet to keep it")
    if preset is None and memory_gb is None and gpu_gb is None and compat != "nnunet":
        log.info(
            "planning for a machine without GPU: preset pocket (narrow network, small patch); use --memory GB for a "
            "GPU elsewhere, or --preset standard for a full-size network"
        )
        return PlanTarget(preset="pocket", memory_gb=find_preset("pocket").default_gb)
    if preset is None and memory_gb is None and gpu_gb is not None and existing is None and compat != "nnunet":
        target = _plan_for_card(gpu_gb)
        log.info("planning with %s: %s", target.describe(), target.card_reason)
        return target
    preset = preset or "standard"
    default_gb = find_preset(preset, "nnunet" if compat == "nnunet" else None).default_gb
    target = PlanTarget(
        preset=preset,
        memory_gb=memory_gb or min(default_gb, gpu_gb or default_gb),
        compat="nnunet" if compat == "nnunet" else None,
    )
    log.info("planning with %s", target.describe())
    return target


def _plan_for_card(gpu_gb: float) -> PlanTarget:
    """The standard preset for the memory that the GPU has free, and why.

    Source: arXiv 2404.09556 for the residual presets, their memory, and their scores on BraTS.

    Args:
        gpu_gb: memory of the GPU.

    Raises:
        MemoryShortageError: nothing is free.
    """
    from autoseg.core.devices import choose_device, free_gpu_memory_gb, name_device

    free_gb, name = free_gpu_memory_gb(), name_device(choose_device("cuda"))
    budget_gb = math.floor(10 * free_gb) / 10
    if budget_gb <= 0:
        raise MemoryShortageError(
            f"all {gpu_gb:.3g} GB of the GPU ({name}) are in use; end the programs on it (see nvidia-smi), or choose "
            f"with --memory GB"
        )
    used = f", of which {gpu_gb - free_gb:.1f} GB are in use" if gpu_gb - free_gb >= LEAST_USED_GB else ""
    reason = (
        f"The GPU ({name}) has {gpu_gb:.3g} GB{used}, so the plan is for {budget_gb:g} GB; --memory 8 plans for what "
        f"nnU-Net plans for, in shorter steps."
    )
    if residual := recommended_residual(budget_gb):
        reason += (
            f" For a GPU of this size nnU-Net's authors recommend preset {residual}, whose steps take longer. In "
            f"their comparison (arXiv 2404.09556) all sizes score alike on brain tumours, 91.1 to 91.3 Dice, so the "
            f"cheaper plain U-Net is planned; --network residual_unet adds a residual one, and autoseg_run compares."
        )
    return PlanTarget(preset="standard", memory_gb=budget_gb, card_reason=reason)


def _existing_target(store: Store, name: str) -> PlanTarget | None:
    """The target of the plan on disk; None where there is none, or none that can be read (planning reports it)."""
    try:
        existing = read_record(Plan, store.preprocessed(name) / "plan.json", advice="")
    except PlanError:
        return None
    return PlanTarget(
        preset=existing.preset,
        memory_gb=existing.memory_gb,
        card_reason=existing.reasons.get("preset"),
        compat=existing.compat,
        networks=existing.networks,
        recipes=existing.recipes,
        class_weights=existing.class_weights,
        time_budget_s=existing.time_budget_s,
        speed=existing.speed,
    )


def _resolve_plan(
    store: Store,
    dataset: Dataset,
    fingerprint: Fingerprint,
    target: PlanTarget,
    options: PlanOptions,
    edited: Edited,
    progress: Progress,
) -> tuple[PendingFile[Plan], Sequence[InitialWeights]]:
    """The plan to write or keep, and the initial weights that it names."""
    path = store.preprocessed(dataset.name) / "plan.json"
    initial_weights: tuple[InitialWeights, ...] = ()
    if edited != "keep" or not path.exists():
        new = _make_plan(fingerprint, target, options.device, progress)
        if options.pretrained is not None or initial_weights_folder(store, dataset.name).exists():
            from autoseg.folds.transfer import add_transfers  # imports torch, which workers never need

            new, initial_weights = add_transfers(store, new, options)
        return resolve_edits(path, new, edited, dataset.name), initial_weights
    existing = read_record(Plan, path, advice=advice(dataset.name))
    check_plan(existing, dataset, path)
    log.info("%s is used unchanged", path)
    return PendingFile(path=path, record=existing, action="keep"), ()


def _make_plan(fingerprint: Fingerprint, target: PlanTarget, device: str, progress: Progress) -> Plan:
    """The plan with its networks and recipes; a configuration that is left out is logged with its reason."""
    from autoseg.networks.encoder_weights import weights_at_hand  # imports torch, which workers never need

    make = partial(
        make_plan,
        fingerprint,
        preset=target.preset,
        compat=target.compat,
        networks=target.networks,
        class_weights=target.class_weights,
        seed=SEED,
        cost=price_step,
        at_hand=weights_at_hand,
    )
    log.info("planning: pricing the training steps")
    speed = None
    if target.time_budget_s is not None:
        from autoseg.folds.probing import measure_speed  # imports torch, which workers never need

        speed = measure_speed(make(memory_gb=target.memory_gb), device, target.speed)
        make = partial(make, time=TimeBudget(seconds=target.time_budget_s, speed=speed))
    if target.probe is None:
        new = make(memory_gb=target.memory_gb)
    else:
        from autoseg.folds.probing import plan_and_probe  # imports torch, which workers never need

        new = plan_and_probe(lambda gb: make(memory_gb=gb), target.memory_gb, target.probe, progress)
    if speed is not None:
        from autoseg.folds.probing import plan_precision

        new = plan_precision(new, speed)
    if target.card_reason is not None:
        new = new.model_copy(update={"reasons": {**new.reasons, "preset": target.card_reason}})
    if target.recipes:
        new = add_recipes(new, fingerprint, target.recipes, price_step, weights_at_hand)
    variants = [f"{dimensions}d_{network}" for network in target.networks for dimensions in (2, 3)]
    for name in (*variants, *target.recipes):
        if name in new.reasons:
            log.warning("%s is left out: %s", name, new.reasons[name])
        if f"{name}{STAND_IN}" in new.configurations:
            log.info("%s%s: %s", name, STAND_IN, new.reasons[f"{name}{STAND_IN}.recipe"])
    for name in target.recipes:
        if name in new.memory and new.memory[name].predicted_gb > new.memory_gb:
            log.warning("%s: %s", name, new.reasons[f"{name}.memory"])
    return new


def show_plan(store: Store, plan: Plan, *, dry_run: bool = False) -> str:
    """The plan in a few lines, and the next command."""
    folder = store.preprocessed(plan.dataset)
    channels = count(len(plan.channels), "channel")
    compat = COMPATIBLE if plan.compat == "nnunet" else ""
    lines = [f"{plan.dataset}: {channels} ({', '.join(plan.channels)}), preset {plan.preset}{compat}"]
    for name, configuration in plan.configurations.items():
        patch = "x".join(map(str, configuration.patch_size))
        spacing = configuration.preprocessing.describe_spacing()
        star = " (recommended)" if name == plan.recommended else ""
        lines.append(
            f"  {name}: {configuration.network.name}, {len(configuration.network.features)} stages, patch {patch}, "
            f"batch {configuration.batch_size}, spacing {spacing}{_describe_memory(plan, name)}{star}"
        )
    if dry_run:
        lines.append("dry run: nothing was written or preprocessed; --explain shows the reasons")
        return "\n".join(lines) + "\n"
    lines.append(f"reasons: {folder / 'plan.json'}")
    transferred = [name for name, c in plan.configurations.items() if c.transfer is not None and c.transfer.weights]
    for name in transferred:
        lines.append(f"initial weights of {name}: {folder / 'transfer' / name}.json")
    twins = [f"{name}_scratch" for name in transferred[:1] if f"{name}_scratch" in plan.configurations]
    for name in [*transferred[:1], *twins] or [plan.recommended]:
        lines.append(f"next: autoseg_train -d {plan.dataset} -c {name} -f 0")
    return "\n".join(lines) + "\n"


def _describe_memory(plan: Plan, name: str) -> str:
    facts = plan.memory.get(name)
    if facts is None:
        return ""
    measured = "" if facts.measured_gb is None else f", {facts.measured_gb:.1f} measured"
    return f", {facts.predicted_gb:.1f} GB{measured}"
