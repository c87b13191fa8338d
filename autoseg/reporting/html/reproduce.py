"""Settings: dataset, versions, seeds, and the commands that repeat the trainings."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from autoseg.core.store import hash_settings
from autoseg.core.text import format_seconds
from autoseg.reporting.html.content import ReportContent, Training


def list_settings(content: ReportContent) -> list[tuple[str, str]]:
    """Everything that the trained models depend on, as (name, value)."""
    plan, fingerprint, trainings = content.plan, content.fingerprint, content.trainings
    dataset = (
        plan.dataset
        if fingerprint is None
        else f"{plan.dataset}, {len(fingerprint.cases)} cases; key {fingerprint.dataset_key}"
    )
    time = f"{format_seconds(sum(t.facts.elapsed_s for t in trainings))} of training"
    if content.experiment is not None:
        time += f"; {format_seconds(content.experiment.elapsed_s)} of autoseg_run in all"
    return [
        ("Dataset", dataset),
        ("Plan", f"SHA-256 {hash_settings(plan)}...; preset {plan.preset}, {plan.memory_gb:g} GB"),
        ("Seed", ", ".join(dict.fromkeys(str(t.facts.seed) for t in trainings))),
        ("Versions", ", ".join(list_versions(trainings))),
        ("Device", ", ".join(dict.fromkeys(t.facts.device for t in trainings))),
        ("Time", time),
        ("Report by", f"autoseg {content.version}"),
    ]


def list_commands(content: ReportContent) -> list[str]:
    """The commands that repeat everything, one per training."""
    dataset = shlex.quote(content.plan.dataset)
    commands = [f"autoseg_plan -d {dataset} --keep"]
    commands += [_repeat(training, dataset, content) for training in content.trainings]
    if content.experiment is not None:
        names = list(dict.fromkeys(training.configuration for training in content.trainings))
        folds = " ".join(content.experiment.folds)
        target = content.experiment.target_metric
        commands.append(
            f"autoseg_run -d {dataset} --configurations {' '.join(map(shlex.quote, names))} --folds {folds}"
            + (f" --target {shlex.quote(target)}" if target != "dice" else "")
        )
    return [*commands, f"autoseg_report -d {dataset}"]


def _repeat(training: Training, dataset: str, content: ReportContent) -> str:
    facts, planned = training.facts, content.plan.configurations.get(training.configuration)
    words = ["autoseg_train", "-d", dataset, "-c", shlex.quote(training.configuration), "-f", shlex.quote(facts.fold)]
    if facts.time_budget_s is not None:
        words += ["--time-budget", f"{facts.time_budget_s:g}s"]
    elif planned is not None:
        lengths = (
            ("--epochs", facts.planned_epochs, planned.training.epochs),
            ("--steps-per-epoch", facts.steps_per_epoch, planned.training.steps_per_epoch),
        )
        words += [word for name, used, default in lengths if used not in (None, default) for word in (name, str(used))]
    if facts.seed != content.plan.seed:
        words += ["--seed", str(facts.seed)]
    return " ".join(words)


def list_versions(trainings: Sequence[Training]) -> list[str]:
    """``autoseg 0.1.0``, ``torch 2.13.0``."""
    return sorted({f"{name} {version}" for t in trainings for name, version in t.facts.versions.items()})
