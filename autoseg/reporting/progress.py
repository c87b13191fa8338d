"""Progress of a training, as one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from autoseg.reporting.canvas import BLUE, GREEN, ORANGE, SKY, VERMILLION, make_figure, render_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, float | None]
GREY = "#999999"


def draw_progress(history: Sequence[Row]) -> bytes:
    """Training loss, validation Dice, learning rate and time per step, as PNG.

    Args:
        history: one row per epoch with the keys epoch, train_loss, validation_dice, learning_rate, data_s (waiting for
            data), compute_s, epoch_s (the whole epoch) and steps; each may be missing or None. Without steps, times
            are those of an epoch.
    """
    figure = make_figure(9.0, 5.6, background="white")
    panels = figure.subplots(2, 2).ravel()
    epochs = _column(history, "epoch")
    epochs = np.where(np.isnan(epochs), np.arange(len(history)), epochs)
    _draw_curve(panels[0], epochs, _column(history, "train_loss"), "Training loss", VERMILLION)
    dice = _column(history, "validation_dice")
    _draw_curve(panels[1], epochs, dice, "Validation Dice", BLUE)
    _mark_best(panels[1], epochs, dice)
    _draw_curve(panels[2], epochs, _column(history, "learning_rate"), "Learning rate", GREEN)
    panels[2].set_ylim(bottom=0)
    _draw_times(panels[3], epochs, history)
    for panel in panels:
        _tidy(panel, epochs)
    figure.tight_layout(pad=1.2, h_pad=1.8, w_pad=2.0)
    return render_png(figure)


def _column(history: Sequence[Row], key: str) -> np.ndarray:
    """(epochs,) float64, NaN where the row has no value."""
    values = (row.get(key) for row in history)
    return np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)


def _draw_curve(panel: Axes, epochs: np.ndarray, values: np.ndarray, title: str, colour: str) -> None:
    """A line through the values that exist; points where they are few."""
    panel.set_title(title, loc="left", fontsize=10, weight="bold")
    is_finite = np.isfinite(values)
    if not is_finite.any():
        _say_nothing(panel)
        return
    marker = "o" if is_finite.sum() <= 30 else ""
    panel.plot(epochs[is_finite], values[is_finite], color=colour, linewidth=1.4, marker=marker, markersize=3)


def _mark_best(panel: Axes, epochs: np.ndarray, values: np.ndarray) -> None:
    if not np.isfinite(values).any():
        return
    best = int(np.nanargmax(values))
    panel.plot(epochs[best], values[best], "o", color=ORANGE, markersize=8, markerfacecolor="none", markeredgewidth=1.6)
    panel.set_title(f"best {values[best]:.3f} in epoch {epochs[best]:.0f}", loc="right", fontsize=8, color="#555555")
    panel.set_ylim(0, max(1.0, float(np.nanmax(values))) * 1.03)


def _draw_times(panel: Axes, epochs: np.ndarray, history: Sequence[Row]) -> None:
    """Seconds of a step, divided into data, computation and the rest (validation, copies)."""
    steps = _column(history, "steps")
    has_steps = steps > 0
    unit = "step" if has_steps.any() else "epoch"
    panel.set_title(f"Time per {unit} (s)", loc="left", fontsize=10, weight="bold")
    parts = [np.nan_to_num(_column(history, key)) for key in ("data_s", "compute_s", "epoch_s")]
    if has_steps.any():
        parts = [np.where(has_steps, part, 0.0) / np.where(has_steps, steps, 1.0) for part in parts]
    data, compute, total = parts
    overhead = np.clip(total - data - compute, 0.0, None)
    if not (data + compute + overhead).any():
        _say_nothing(panel)
        return
    edges = np.append(epochs - 0.5, epochs[-1] + 0.5)
    base = np.zeros_like(data)
    for seconds, name, colour in (
        (compute, "compute", SKY),
        (data, "waiting for data", ORANGE),
        (overhead, "other", GREY),
    ):
        panel.stairs(base + seconds, edges, baseline=base, fill=True, color=colour, label=name, linewidth=0)
        base = base + seconds
    panel.set_ylim(0, base.max() * 1.25)
    panel.legend(frameon=False, fontsize=8, ncols=3, loc="upper right")


def _say_nothing(panel: Axes) -> None:
    panel.text(0.5, 0.5, "no values yet", transform=panel.transAxes, ha="center", va="center", color=GREY)
    panel.set_yticks([])


def _tidy(panel: Axes, epochs: np.ndarray) -> None:
    from matplotlib.ticker import MaxNLocator

    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis="y", color="#E5E5E5", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.tick_params(labelsize=8)
    panel.set_xlabel("epoch", fontsize=8)
    if epochs.size:
        panel.set_xlim(epochs.min() - 0.6, epochs.max() + 0.6)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
