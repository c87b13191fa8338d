"""Runs where panoptica, surface-distance, MONAI and CC-Metrics are installed: scores the pairs of a file with them.

python peers.py pairs.npz scores.json
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import surface_distance
import torch
from CCMetrics import CCDiceMetric
from CCMetrics.space_separation import compute_voronoi_regions, compute_voronoi_regions_fast
from monai import metrics as monai
from panoptica import ConnectedComponentsInstanceApproximator, InputType, NaiveThresholdMatching, Panoptica_Evaluator

PACKAGES = ("panoptica", "surface-distance", "monai", "CCMetrics")
Spacing = tuple[float, ...]


def main() -> None:
    stored = np.load(sys.argv[1])
    found = {}
    for number, name in enumerate(stored["names"].tolist()):
        p, r = stored[f"prediction_{number}"], stored[f"reference_{number}"]
        spacing = tuple(stored["spacings"][number].tolist())
        scores: dict[str, float | None] = {}
        for ask in (ask_panoptica, ask_surface_distance, ask_monai, ask_cc_metrics):
            scores |= answer(ask, p, r, spacing)
        found[name] = scores
    versions = {package: version(package) for package in PACKAGES}
    Path(sys.argv[2]).write_text(json.dumps({"versions": versions, "scores": found}))


def answer(ask: Callable, p: np.ndarray, r: np.ndarray, spacing: Spacing) -> dict[str, float | None]:
    """What a peer says; None where it gives no finite number."""
    with contextlib.redirect_stdout(io.StringIO()):
        found = ask(p, r, spacing)
    return {name: float(value) if value is not None and math.isfinite(value) else None for name, value in found.items()}


def ask_panoptica(p: np.ndarray, r: np.ndarray, spacing: Spacing) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for share in (20, 50):
        evaluator = Panoptica_Evaluator(
            expected_input=InputType.SEMANTIC,
            instance_approximator=ConnectedComponentsInstanceApproximator(),
            instance_matcher=NaiveThresholdMatching(matching_threshold=share / 100),
        )
        result = evaluator.evaluate(p.astype(np.uint8), r.astype(np.uint8), verbose=False)["ungrouped"]
        found |= {f"panoptica rq {share}": result.rq, f"panoptica sq {share}": result.sq}
        found |= {f"panoptica pq {share}": result.pq, f"panoptica dice {share}": result.global_bin_dsc}
    return found


def ask_surface_distance(p: np.ndarray, r: np.ndarray, spacing: Spacing) -> dict[str, float | None]:
    if not (p.any() and r.any()):
        return {}
    distances = surface_distance.compute_surface_distances(r, p, spacing)
    return {
        "surface-distance hd95": surface_distance.compute_robust_hausdorff(distances, 95),
        "surface-distance nsd 2": surface_distance.compute_surface_dice_at_tolerance(distances, 2.0),
        "surface-distance assd": float(np.mean(surface_distance.compute_average_surface_distance(distances))),
        "surface-distance dice": surface_distance.compute_dice_coefficient(r, p),
    }


def ask_monai(p: np.ndarray, r: np.ndarray, spacing: Spacing) -> dict[str, float | None]:
    ours, theirs = (torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float32)) for mask in (p, r))
    found: dict[str, float | None] = {
        "monai dice": monai.compute_dice(ours, theirs, include_background=False, ignore_empty=True).item(),
        "monai iou": monai.compute_iou(ours, theirs, include_background=False, ignore_empty=True).item(),
    }
    counts = monai.get_confusion_matrix(ours, theirs, include_background=False)
    for name in ("sensitivity", "specificity", "precision", "accuracy"):
        found[f"monai {name}"] = monai.compute_confusion_matrix_metric(name, counts).item()
    if p.any() and r.any():
        options = {"include_background": False, "spacing": spacing}
        found["monai hd95"] = monai.compute_hausdorff_distance(ours, theirs, percentile=95, **options).item()
        found["monai assd"] = monai.compute_average_surface_distance(ours, theirs, symmetric=True, **options).item()
        for tau in (1, 2):
            found[f"monai nsd {tau}"] = monai.compute_surface_dice(ours, theirs, [float(tau)], **options).item()
    return found


def ask_cc_metrics(p: np.ndarray, r: np.ndarray, spacing: Spacing) -> dict[str, float | None]:
    ours, theirs = (np.stack([~mask, mask])[None].astype(np.int64) for mask in (p, r))
    metric = CCDiceMetric(cc_reduction="patient", use_caching=False)
    metric(y_pred=ours, y=theirs)
    found = {"cc-metrics dice": metric.cc_aggregate()[0].item()}
    if r.any() and p.any():
        cells = {
            "first of equals": compute_voronoi_regions(r.astype(np.int64)),
            "in mm": compute_voronoi_regions_fast(r.astype(np.int64), sampling=spacing),
        }
        for name, cell in cells.items():
            pairs = [(p & (cell == number), r & (cell == number)) for number in np.unique(cell)]
            found[f"cc-metrics cells {name}"] = float(
                np.mean([2 * (one & two).sum() / (one.sum() + two.sum()) for one, two in pairs])
            )
    return found


if __name__ == "__main__":
    main()
