"""Trained folds: a table, and charts of loss and validation Dice with one curve per fold."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from autoseg.core.text import format_seconds
from autoseg.reporting.html.charts import Curve, draw_curves
from autoseg.reporting.html.content import Training
from autoseg.reporting.html.numbers import DASH


def describe_training(training: Training) -> list[str | int]:
    """One row of the table."""
    facts, rows = training.facts, training.history
    losses = [value for row in rows if (value := row.get("train_loss")) is not None]
    dices = [value for row in rows if (value := row.get("validation_dice")) is not None]
    return [
        training.configuration,
        facts.fold,
        facts.device,
        "finished" if facts.finished else "not finished",
        len(facts.train),
        len(facts.validation),
        facts.epochs,
        facts.steps,
        format_seconds(facts.elapsed_s),
        f"{losses[-1]:.3f}" if losses else DASH,
        f"{dices[-1]:.3f}" if dices else DASH,
    ]


def draw_histories(trainings: Sequence[Training]) -> dict[str, list[tuple[str, Markup | None]]]:
    """Configuration -> (title, chart) of loss and validation Dice; None without values."""
    return {
        name: [
            _draw_history(name, [t for t in trainings if t.configuration == name], key, title)
            for key, title in (("train_loss", "training loss"), ("validation_dice", "validation Dice"))
        ]
        for name in dict.fromkeys(training.configuration for training in trainings)
    }


def _draw_history(name: str, trainings: Sequence[Training], key: str, title: str) -> tuple[str, Markup | None]:
    curves = [curve for number, t in enumerate(trainings) if (curve := _curve(t, key, number)).points]
    title_of_chart = f"{name}: {title}"
    if not curves:
        return title_of_chart, None
    return title_of_chart, draw_curves(curves, "epoch", title, title=title_of_chart, unit_axis=key == "validation_dice")


def _curve(training: Training, key: str, number: int) -> Curve:
    points = [
        (float(epoch), value)
        for position, row in enumerate(training.history)
        if (value := row.get(key)) is not None
        and math.isfinite(value)
        and (epoch := row.get("epoch", position)) is not None
    ]
    return Curve(name=f"fold {training.facts.fold}", points=tuple(points), number=number)
