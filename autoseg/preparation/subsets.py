"""``autoseg_subset``, and the plan and fold of ``autoseg_train --subset``."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from autoseg.core.errors import PlanError, UsageError
from autoseg.core.records import Fingerprint, Fold, Plan, Subsets
from autoseg.core.runs import RUN, recorded
from autoseg.core.store import Store, read_record, write_record
from autoseg.planning.subsets import describe_subsets, make_subsets
from autoseg.preparation import read_folds, read_plan

log = logging.getLogger(__name__)

FILE = "subsets.json"


def make_subset_file(store: Store, name: str, sizes: Sequence[int], *, seed: int | None = None) -> str:
    """Write the subsets of a planned dataset; the same folds, sizes and seed give the same.

    Args:
        sizes: numbers of training cases.
        seed: instead of the plan's.

    Returns:
        A table of them.

    Raises:
        UsageError: the dataset does not exist, or a fold has too few cases.
        PlanError: it is not planned.
    """
    plan = read_plan(store, name)
    folder = store.preprocessed(name)
    again = f"make it with: autoseg_plan -d {name}"
    fingerprint = read_record(Fingerprint, folder / "fingerprint.json", advice=again)
    subsets = make_subsets(fingerprint, read_folds(store, name), sizes, seed=plan.seed if seed is None else seed)
    seeds = () if seed is None else ("--seed", str(seed))
    words = ("autoseg_subset", "-d", name, "-n", *map(str, sizes), *seeds)
    with recorded(store, (folder / FILE).with_suffix(f".{RUN}"), words) as run:
        run.begin()
        for source in ("folds.json", "fingerprint.json"):
            run.add_content(folder / source)
        write_record(folder / FILE, subsets)
        log.info("wrote %s", folder / FILE)
    table = describe_subsets(subsets, fingerprint)
    return f"{table}next: autoseg_train -d {name} -c {plan.recommended} -f 0 --subset {subsets.sizes[0]}\n"


def subset_name(configuration: str, size: int) -> str:
    """The name under which a configuration is trained on a subset."""
    return f"{configuration}__n{size}"


def take_subset(store: Store, plan: Plan, name: str, fold_name: str, fold: Fold, size: int) -> tuple[Plan, Fold]:
    """The plan with the configuration under the subset's name, and the fold with fewer training cases.

    Args:
        name: of the configuration.
        fold_name, fold: as planned; what it holds out stays.
        size: number of training cases.

    Raises:
        UsageError: the subset does not exist, or the configuration is a cascade.
        PlanError: the subsets are of other folds than there are now.
    """
    if plan.configurations[name].cascade_from is not None:
        raise UsageError(f"'{name}' is a cascade, whose source has seen every case; use --subset with another one")
    path = store.preprocessed(plan.dataset) / FILE
    again = f"make it with: autoseg_subset -d {plan.dataset} -n {size}"
    subsets = read_record(Subsets, path, advice=again)
    if size not in subsets.sizes:
        sizes = ", ".join(map(str, subsets.sizes))
        raise UsageError(f"no subset of {size} cases of {plan.dataset}, only of {sizes}; {again}")
    chosen = subsets.folds.get(fold_name, ())[:size]
    strange = sorted(set(chosen) - set(fold.train))
    if strange or len(chosen) < size:
        what = f"{strange[0]} is not a training case of fold {fold_name}" if strange else f"it lacks fold {fold_name}"
        raise PlanError(f"{path} was made of other folds than there are now ({what}); {again}")
    subset_configuration = subset_name(name, size)
    configurations = {**plan.configurations, subset_configuration: plan.configurations[name]}
    memory = {**plan.memory, **({subset_configuration: plan.memory[name]} if name in plan.memory else {})}
    renamed = plan.model_copy(update={"configurations": configurations, "memory": memory})
    return renamed, Fold(train=tuple(sorted(chosen)), validation=fold.validation)
