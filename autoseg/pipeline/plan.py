"""The command as functions: measure, plan, split, preprocess; what is done is not redone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from autoseg.core.errors import UsageError
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Dataset, Fingerprint, Folds, Plan
from autoseg.core.store import Store, read_record
from autoseg.datasets import log_left_out
from autoseg.folds.transfer_files import InitialWeights, initial_weights_folder, remove_stale
from autoseg.options import PlanOptions
from autoseg.pipeline.planning_defaults import Wanted, choose_preset
from autoseg.planning import add_recipes, check_sites, make_plan, price_step
from autoseg.preparation.arrays import prepare_arrays
from autoseg.preparation.edits import Edited, PendingFile, advice, settle
from autoseg.preparation.left_out import leave_out, write_left_out
from autoseg.preparation.measuring import measure_dataset
from autoseg.preparation.raw import LEFT_OUT, case_key, open_raw
from autoseg.preparation.splits import FoldOptions, import_folds, resolve_folds

log = logging.getLogger(__name__)
SEED = 12345


@dataclass(frozen=True, kw_only=True)
class PlanningResult:
    """Result of planning: measurements, decisions and folds."""

    fingerprint: Fingerprint
    plan: Plan
    folds: Folds


def plan(store: Store, options: PlanOptions, *, progress: Progress = no_progress) -> PlanningResult:
    """Measure a dataset, plan its configurations, split it into folds and preprocess it; what is done is not redone.

    Raises:
        CasesError: some cases are bad; facts and arrays of the others are kept for the next run.
        PlanError: a file of folds is wrong; the plan was edited by hand and ``edited`` is ``refuse``; or it was edited
            wrongly.
        UsageError, ModelError: the model to begin with does not exist, cannot be read, or does not fit.
    """
    name, dry_run, workers, skip_bad = options.dataset, options.dry_run, options.workers, options.skip_bad
    wanted = choose_preset(store, options)
    folds = FoldOptions(
        file=options.folds_file, count=options.fold_count, leave_one_site_out=options.leave_one_site_out
    )
    edited: Edited = "keep" if options.keep else "replace" if options.replace else "refuse"
    if options.pretrained is not None and edited == "keep":
        raise UsageError("--pretrained plans configurations, and --keep uses the plan as it is; leave one of them out")
    dataset = open_raw(store, name, retry_skipped=True)
    folder = store.preprocessed(name)
    imported = import_folds(folds.file, {case.id for case in dataset.cases if case.labels}) if folds.file else None
    if folds.leave_one_site_out:  # before anything long begins
        check_sites({case.id: case.site for case in dataset.cases if case.labels}, name)
    keys = {case.id: case_key(dataset, case) for case in dataset.cases}
    fingerprint, bad = measure_dataset(dataset, folder, keys, workers, progress, write=not dry_run, skip_bad=skip_bad)
    dataset = leave_out(dataset, bad)
    log_left_out(dataset.model_copy(update={"left_out": bad}))
    planned, starts = _settle_plan(store, dataset, fingerprint, wanted, options, edited, progress)
    split = resolve_folds(folder / "folds.json", fingerprint, folds, imported, edited, seed=SEED)
    if not dry_run:
        write_left_out(folder / LEFT_OUT, bad, keys)
    for start in () if dry_run else starts:  # before the plan that names them
        start.write(initial_weights_folder(store, name))
    for settled in (planned, split):  # only now, so that a refusal of either changes nothing
        if dry_run:
            settled.say()
        else:
            settled.write()
    if not dry_run:
        remove_stale(initial_weights_folder(store, name), planned.record)
        prepare_arrays(dataset, folder, planned.record, fingerprint, keys, workers, progress)
    return PlanningResult(fingerprint=fingerprint, plan=planned.record, folds=split.record)


def show_plan(store: Store, plan: Plan, *, dry_run: bool = False) -> str:
    """The plan in a few lines, and what to type next."""
    folder = store.preprocessed(plan.dataset)
    count = f"{len(plan.channels)} channel{'s'[: len(plan.channels) != 1]}"
    compat = " as nnU-Net plans" if plan.compat == "nnunet" else ""
    lines = [f"{plan.dataset}: {count} ({', '.join(plan.channels)}), preset {plan.preset}{compat}"]
    for name, configuration in plan.configurations.items():
        patch = "x".join(map(str, configuration.patch_size))
        spacing = " x ".join("own" if s is None else f"{s:.3g}" for s in configuration.preprocessing.spacing)
        star = " (recommended)" if name == plan.recommended else ""
        lines.append(
            f"  {name}: {configuration.network.name}, {len(configuration.network.features)} stages, patch {patch}, "
            f"batch {configuration.batch_size}, spacing {spacing} mm{_say_memory(plan, name)}{star}"
        )
    if dry_run:
        lines.append("dry run: nothing was written or preprocessed; --explain shows the reasons")
        return "\n".join(lines) + "\n"
    lines.append(f"reasons: {folder / 'plan.json'}")
    transferred = [name for name, configuration in plan.configurations.items() if configuration.transfer is not None]
    for name in transferred:
        lines.append(f"{name} begins with weights: {folder / 'transfer' / name}.json")
    twins = [f"{name}_scratch" for name in transferred[:1] if f"{name}_scratch" in plan.configurations]
    for name in [*transferred[:1], *twins] or [plan.recommended]:
        lines.append(f"next: autoseg_train -d {plan.dataset} -c {name} -f 0")
    return "\n".join(lines) + "\n"


def _say_memory(plan: Plan, name: str) -> str:
    facts = plan.memory.get(name)
    if facts is None:
        return ""
    measured = "" if facts.measured_gb is None else f", {facts.measured_gb:.1f} measured"
    return f", {facts.predicted_gb:.1f} GB{measured}"


def _settle_plan(
    store: Store,
    dataset: Dataset,
    fingerprint: Fingerprint,
    wanted: Wanted,
    options: PlanOptions,
    edited: Edited,
    progress: Progress,
) -> tuple[PendingFile[Plan], Sequence[InitialWeights]]:
    path = store.preprocessed(dataset.name) / "plan.json"
    starts: tuple[InitialWeights, ...] = ()
    if edited != "keep" or not path.exists():
        plan = _make_plan(fingerprint, wanted, progress)
        if options.pretrained is not None or initial_weights_folder(store, dataset.name).exists():
            from autoseg.folds.transfer import add_transfers  # imports torch, which workers never need

            plan, starts = add_transfers(store, plan, options)
        return settle(path, plan, edited, dataset.name), starts
    from autoseg.preparation.checks import check_plan  # imports torch, which workers never need

    plan = read_record(Plan, path, advice=advice(dataset.name))
    check_plan(plan, dataset, path)
    log.info("%s is used as it is", path)
    return PendingFile(path=path, record=plan, fate="keep"), ()


def _make_plan(fingerprint: Fingerprint, wanted: Wanted, progress: Progress) -> Plan:
    make = partial(
        make_plan,
        fingerprint,
        preset=wanted.preset,
        compat=wanted.compat,
        networks=wanted.networks,
        class_weights=wanted.class_weights,
        seed=SEED,
        cost=price_step,
    )
    log.info("planning: pricing the training steps")
    if wanted.probe is None:
        plan = make(memory_gb=wanted.memory_gb)
    else:
        from autoseg.folds.probing import plan_and_probe  # imports torch, which workers never need

        plan = plan_and_probe(lambda gb: make(memory_gb=gb), wanted.memory_gb, wanted.probe, progress)
    for network in wanted.networks:
        for name in (f"2d_{network}", f"3d_{network}"):
            if name in plan.reasons:
                log.warning("%s is left out: %s", name, plan.reasons[name])
    return _add_recipes(plan, fingerprint, wanted.recipes) if wanted.recipes else plan


def _add_recipes(plan: Plan, fingerprint: Fingerprint, recipes: tuple[str, ...]) -> Plan:
    """The plan with the systems that were asked for; what a person should know of them is said."""
    plan = add_recipes(plan, fingerprint, recipes, price_step)
    for name in recipes:
        if name in plan.reasons:
            log.warning("%s is left out: %s", name, plan.reasons[name])
        elif plan.memory[name].predicted_gb > plan.memory_gb:
            log.warning("%s: %s", name, plan.reasons[f"{name}.memory"])
    return plan
