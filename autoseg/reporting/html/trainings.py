"""How the trainings went: one pair of charts per configuration, one curve per fold."""

from __future__ import annotations

import math
from collections.abc import Sequence

from autoseg.reporting.html.axes import Axis, span_axis
from autoseg.reporting.html.charts import Curve, draw_curves
from autoseg.reporting.html.content import ReportContent, Training
from autoseg.reporting.html.markup import Child, Markup, element, join
from autoseg.reporting.html.numbers import DASH, show_duration
from autoseg.reporting.html.page import build_table, paragraph

HEADS = (
    "configuration",
    "fold",
    "device",
    "state",
    "cases",
    "held out",
    "epochs",
    "steps",
    "time",
    "last loss",
    "Dice",
)


def show_trainings(content: ReportContent) -> Markup:
    """A table of the folds, and their curves."""
    parts: list[Markup] = [
        build_table(HEADS, [_describe(training) for training in content.trainings], caption="Trained folds", numbers=7),
        paragraph(
            "Dice here is the quick validation on a few held-out cases at the end of an epoch, pooled over their "
            "voxels; it shows whether training goes on well. The scores below are of whole cases."
        ),
    ]
    for name in dict.fromkeys(training.configuration for training in content.trainings):
        own = [training for training in content.trainings if training.configuration == name]
        parts += [element("h3", name), _draw(name, own)]
    return join(parts)


def _describe(training: Training) -> list[Child]:
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
        show_duration(facts.elapsed_s),
        f"{losses[-1]:.3f}" if losses else DASH,
        f"{dices[-1]:.3f}" if dices else DASH,
    ]


def _draw(name: str, trainings: Sequence[Training]) -> Markup:
    drawings: list[Markup] = []
    for key, title in (("train_loss", "training loss"), ("validation_dice", "validation Dice")):
        curves = [curve for number, t in enumerate(trainings) if (curve := _find_curve(t, key, number)).points]
        values = [y for curve in curves for _, y in curve.points]
        if not values:
            drawings.append(paragraph(f"The history of {name} holds no {title}."))
            continue
        epochs = [x for curve in curves for x, _ in curve.points]
        across = Axis(name="epoch", low=0, high=max(5.0, *epochs))  # so that its ticks are whole
        up = Axis(name=title, low=0, high=1) if key == "validation_dice" else span_axis(title, values)
        drawings.append(draw_curves(curves, across, up, title=f"{name}: {title}"))
    return element("div", drawings, class_="charts")


def _find_curve(training: Training, key: str, number: int) -> Curve:
    points = [
        (float(epoch), value)
        for position, row in enumerate(training.history)
        if (value := row.get(key)) is not None
        and math.isfinite(value)
        and (epoch := row.get("epoch", position)) is not None
    ]
    return Curve(name=f"fold {training.facts.fold}", points=tuple(points), number=number)
