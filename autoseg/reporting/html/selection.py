"""Result of ``autoseg_run``: the candidates, the post-processing and the calibration of the selected one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from autoseg.core.records import Calibration, Experiment, ModelPostProcessing, PostProcessing
from autoseg.evaluation.postprocessing import describe_setting
from autoseg.reporting.html.charts import Curve, Interval, draw_reliability
from autoseg.reporting.html.numbers import DASH, format_p, format_range, format_value
from autoseg.reporting.html.scores import draw_target_intervals


def describe_candidates(experiment: Experiment) -> dict[str, Any]:
    """A row per candidate, and their means as a chart."""
    metric = experiment.target_metric
    rows, intervals = [], []
    for name, candidate in experiment.candidates.items():
        selected = name == experiment.winner
        rows.append(
            [
                f"{name} (selected)" if selected else name,
                ", ".join(candidate.members),
                format_value(candidate.target, metric),
                format_range(candidate.lower, candidate.upper, metric),
                DASH if candidate.difference is None else f"{candidate.difference:+.3f}",
                format_p(candidate.p_value),
            ]
        )
        bounds = {"low": candidate.lower, "high": candidate.upper}
        intervals.append(Interval(name=name, value=candidate.target, selected=selected, **bounds))
    return {"rows": rows, "chart": draw_target_intervals(intervals, metric)}


def describe_postprocessing(experiment: Experiment) -> dict[str, Any]:
    """Post-processing of masks, and its gain."""
    before, after = experiment.target_before, experiment.target_after
    return {
        "rows": [
            [label, describe_setting(setting)]
            for label, setting in experiment.postprocessing.items()
            if setting != PostProcessing()
        ],
        "gain": None if before is None or after is None else f"{after - before:+.3f}",
    }


def describe_model_postprocessing(chosen: Mapping[str, ModelPostProcessing]) -> list[list[str]]:
    """A row per configuration: the post-processing of its masks, and the score without and with it."""
    return [
        [
            name,
            "; ".join(f"{label}: {describe_setting(setting)}" for label, setting in record.settings.items())
            or record.reason,
            str(record.cases),
            format_value(record.target_before, record.target_metric),
            format_value(record.target_after, record.target_metric),
        ]
        for name, record in chosen.items()
    ]


def draw_calibration(calibration: Calibration, title: str) -> Markup:
    """The reliability curves before and after the temperature."""
    after = f"temperature {calibration.temperature:.3g}"
    curves = [
        Curve(
            name=name,
            number=number,
            points=tuple(
                (point.confidence, point.frequency)
                for point in bins
                if point.confidence is not None and point.frequency is not None
            ),
        )
        for name, number, bins in (("as predicted", 1, calibration.bins_before), (after, 0, calibration.bins_after))
    ]
    names = "mean predicted probability of foreground", "fraction that is foreground"
    return draw_reliability([curve for curve in curves if curve.points], *names, title=title)
