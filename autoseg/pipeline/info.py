"""``autoseg_info``: this machine, the versions, and the models below the root."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

import psutil
import torch

from autoseg.core.devices import name_processor, use_cores
from autoseg.core.parallel import free_memory_bytes
from autoseg.core.records import BestModel, Experiment, Info, MachineFacts, ModelFacts, Plan, Scores
from autoseg.core.runs import list_versions
from autoseg.core.store import Store, read_record, subfolders
from autoseg.core.text import align_columns, join_names
from autoseg.evaluation.statistics import describe_values, list_patients
from autoseg.evaluation.summary import mean_over_labels
from autoseg.experiment.records import ExperimentPaths
from autoseg.folds.files import FACTS, read_facts
from autoseg.model import fold_folder, load_plan, trained_folds
from autoseg.prediction.ensembles import BEST_RECORD

TARGET = "dice"
AGAIN = "make it again, or move the folder away"


def collect_info(store: Store) -> Info:
    """Facts of the machine and of every dataset and model below the root; nothing is written.

    Raises:
        PlanError: the record of a model is damaged.
    """
    models = [
        facts
        for dataset in subfolders(store.results_root)
        for name in subfolders(store.results_root / dataset)
        if (facts := _describe_model(store, dataset, name)) is not None
    ]
    return Info(
        machine=_describe_machine(store.root), versions=list_versions(), datasets=store.datasets(), models=tuple(models)
    )


def render_info(info: Info, *, width: int | None = None) -> str:
    """The facts as lines for a person; ends in a newline."""
    machine = info.machine
    lines = [
        f"system     {machine.system}",
        f"processor  {machine.processor}",
        f"memory     {machine.free_memory_gb:.1f} of {machine.memory_gb:.1f} GB free",
        f"GPU        {', '.join(machine.gpus) or 'none that torch sees'}",
        f"disk       {machine.free_disk_gb:.1f} GB free below the root",
        f"versions   {', '.join(f'{name} {version}' for name, version in info.versions.items())}",
        f"datasets   {join_names(info.datasets) or 'none below the root'}",
    ]
    if not info.models:
        return "\n".join([*lines, "models     none below the root"]) + "\n"
    rows = [("model", "channels", "labels", "cases", "score on held-out cases")]
    for model in info.models:
        folds = f" ({len(model.folds)} folds)" if model.folds else f" ({' + '.join(model.members)})"
        rows.append(
            (
                f"-d {model.dataset} -c {model.configuration}{folds}",
                ", ".join(model.channels),
                ", ".join(model.labels),
                "-" if model.training_cases is None else str(model.training_cases),
                _describe_score(model),
            )
        )
    return "\n".join([*lines, "", *align_columns(rows, left=3, width=width)]) + "\n"


def _describe_score(model: ModelFacts) -> str:
    if model.score is None:
        return "-"
    interval = "" if model.interval is None else " ({:.3f} to {:.3f})".format(*model.interval)
    return f"{model.metric} {model.score:.3f}{interval}"


def _describe_machine(root: Path) -> MachineFacts:
    existing = next(folder for folder in (root.resolve(), *root.resolve().parents) if folder.exists())
    cores = use_cores()
    return MachineFacts(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=name_processor(cores),
        cores=cores,
        memory_gb=round(psutil.virtual_memory().total / 1e9, 1),
        free_memory_gb=round(free_memory_bytes() / 1e9, 1),
        gpus=tuple(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())),
        free_disk_gb=round(shutil.disk_usage(existing).free / 1e9, 1),
    )


def _describe_model(store: Store, dataset: str, name: str) -> ModelFacts | None:
    """Facts of a model folder; None where it holds no finished model."""
    folder = store.results(dataset, name)
    if (folder / BEST_RECORD).exists():
        return _describe_best(store, dataset, name)
    folds = trained_folds(folder)
    if not folds:
        return None
    scores = [
        read_record(Scores, path, advice=AGAIN)
        for fold in folds
        if (path := fold_folder(folder, fold) / "scores.json").exists()
    ]
    cases = [case for of_fold in scores for case in of_fold.cases]
    values = [mean_over_labels(case, list(case.scores), TARGET) for case in cases]
    statistics = describe_values(values, list_patients(cases))
    return ModelFacts(
        dataset=dataset,
        configuration=name,
        folds=folds,
        members=(name,),
        training_cases=_count_cases(folder, folds),
        metric=TARGET,
        score=statistics.mean,
        interval=statistics.interval,
        scored_cases=statistics.count,
        **_describe_task(load_plan(folder)),
    )


def _describe_best(store: Store, dataset: str, name: str) -> ModelFacts:
    """Facts of the best model of an experiment."""
    folder, outcome = store.results(dataset, name), ExperimentPaths.of(store, dataset).outcome
    members = read_record(BestModel, folder / BEST_RECORD, advice=AGAIN).members
    experiment = read_record(Experiment, outcome, advice=AGAIN) if outcome.exists() else None
    winner = None if experiment is None else experiment.candidates.get(experiment.winner)
    first = folder / members[0]
    bounds = None if winner is None or winner.lower is None or winner.upper is None else (winner.lower, winner.upper)
    summaries = {} if winner is None else winner.summary
    counts = [entry.count + entry.undefined for metrics in summaries.values() for entry in metrics.values()]
    return ModelFacts(
        dataset=dataset,
        configuration=name,
        folds=(),
        members=members,
        training_cases=_count_cases(store.results(dataset, members[0]), trained_folds(first)),
        metric=TARGET if experiment is None else experiment.target_metric,
        score=None if winner is None else winner.target,
        interval=bounds,
        scored_cases=max(counts, default=0),
        **_describe_task(load_plan(first)),
    )


def _describe_task(plan: Plan) -> dict[str, tuple[str, ...]]:
    labels = [name for name, value in plan.labels.items() if value not in (0, plan.ignore_label)]
    return {"channels": plan.channels, "labels": tuple(plan.regions or labels)}


def _count_cases(folder: Path, folds: Sequence[str]) -> int | None:
    """Number of different cases of the folds; None where their facts are missing."""
    cases: set[str] = set()
    for fold in folds:
        if (fold_folder(folder, fold) / FACTS).exists():
            facts = read_facts(fold_folder(folder, fold), advice=AGAIN)
            cases |= {*facts.train, *facts.validation}
    return len(cases) or None
