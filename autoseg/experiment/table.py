"""An experiment in a few lines."""

from __future__ import annotations

from autoseg.core.records import Experiment
from autoseg.core.text import format_seconds
from autoseg.evaluation.postprocessing import describe_setting

DOUBTS = 5


def render_experiment(found: Experiment) -> str:
    """Candidates best first, what was chosen and done, and the cases worth a look; ends in a newline."""
    best_first = sorted(
        found.candidates, key=lambda name: (name != found.winner, -abs(found.candidates[name].target or 0))
    )
    rows = [("candidate", found.target_metric, "95 % interval", "to the winner", "p (Holm)")]
    for name in best_first:
        reached = found.candidates[name]
        rows.append(
            (
                name,
                _number(reached.target),
                f"{_number(reached.lower)} to {_number(reached.upper)}",
                "winner" if reached.difference is None else f"{reached.difference:+.4f}",
                "" if reached.p_value is None else f"{reached.p_value:.2g}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += ["", found.reason]
    for label, setting in found.postprocessing.items():
        lines.append(f"post-processing of {label}: {describe_setting(setting)}")
    lines.append(
        f"mean {found.target_metric} {_number(found.target_before)} before and {_number(found.target_after)} after "
        f"post-processing, each fold with what the others spoke for"
        if found.postprocessing
        else "post-processing: none; nothing that was tried helps on cases it was not chosen on"
    )
    if found.calibration is not None:
        lines.append(
            f"calibration: temperature {found.calibration.temperature:.3g}, expected calibration error "
            f"{found.calibration.error_before:.2g} before and {found.calibration.error_after:.2g} after"
            f"{' (out of fold)' if found.calibration.fold_temperatures else ''}"
        )
    if found.doubts:
        lines += ["", f"worth a look, {min(DOUBTS, len(found.doubts))} of {len(found.doubts)}:"]
        lines += [f"  {doubt.case}: {doubt.reason}" for doubt in found.doubts[:DOUBTS]]
    lines += ["", f"all of it took {format_seconds(found.elapsed_s)}"]
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
