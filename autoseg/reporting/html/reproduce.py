"""What it takes to get the same again: commands, versions, seeds, splits, and the plan itself."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from autoseg.core.records import render_record
from autoseg.core.store import hash_settings
from autoseg.reporting.html.content import ReportContent, Training
from autoseg.reporting.html.markup import Markup, element, join
from autoseg.reporting.html.numbers import show_duration
from autoseg.reporting.html.page import fold_away, paragraph


def show_settings(content: ReportContent) -> Markup:
    """Everything that the trainings hang on."""
    plan = content.plan
    seeds = dict.fromkeys(str(training.facts.seed) for training in content.trainings)
    devices = dict.fromkeys(training.facts.device for training in content.trainings)
    facts = [
        ("Dataset", _describe_dataset(content)),
        (
            "Plan",
            f"{hash_settings(plan)} (the first digits of its SHA-256); preset {plan.preset}, {plan.memory_gb:g} GB",
        ),
        ("Seed", ", ".join(seeds)),
        ("Trained with", ", ".join(list_versions(content.trainings))),
        ("On", ", ".join(devices)),
        ("Time", _describe_time(content)),
        ("Report by", f"autoseg {content.version}"),
    ]
    listed = element("dl", [(element("dt", name), element("dd", value)) for name, value in facts])
    parts = [listed, paragraph(_say_how(content)), element("pre", "\n".join(list_commands(content)))]
    if content.folds is not None:
        parts.append(
            fold_away("folds.json: which cases each fold holds out", element("pre", render_record(content.folds)))
        )
    parts.append(fold_away("plan.json: every setting", element("pre", render_record(plan))))
    return join(parts)


def _describe_dataset(content: ReportContent) -> str:
    found = content.fingerprint
    if found is None:
        return content.plan.dataset
    return f"{content.plan.dataset}, {len(found.cases)} cases; key of its files {found.dataset_key}"


def _describe_time(content: ReportContent) -> str:
    training = f"{show_duration(sum(t.facts.elapsed_s for t in content.trainings))} of training in all"
    if content.experiment is None:
        return training
    return f"{training}; autoseg_run took {show_duration(content.experiment.elapsed_s)} with everything else"


def _say_how(content: ReportContent) -> str:
    said = (
        f"Save the plan below as autoseg_preprocessed/{content.plan.dataset}/plan.json, and the folds as folds.json "
        "beside it. On a CPU the same plan, seed and number of steps give the same weights on the same machine, bit "
        "for bit; on a GPU they give nearly the same."
    )
    if any(training.facts.time_budget_s is not None for training in content.trainings):
        said += " A time budget follows the clock, so the number of steps will differ."
    return said


def list_commands(content: ReportContent) -> list[str]:
    """The commands that make it again, one per training."""
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
        words += [word for name, done, own in lengths if done not in (None, own) for word in (name, str(done))]
    if facts.seed != content.plan.seed:
        words += ["--seed", str(facts.seed)]
    return " ".join(words)


def list_versions(trainings: Sequence[Training]) -> list[str]:
    """``autoseg 0.1.0``, ``torch 2.13.0``."""
    return sorted({f"{name} {version}" for t in trainings for name, version in t.facts.versions.items()})
