"""Masks of new scans that need a review, by their probabilities and the disagreement of the networks' own masks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autoseg.core.geometry import bounding_box, box_slices
from autoseg.core.probabilities import ClassProbabilities, join_boxes
from autoseg.core.records import CaseDoubt, Doubt, Doubts, Label
from autoseg.core.store import write_record
from autoseg.evaluation.review import doubt_case, rank_doubts, without_expectation
from autoseg.prediction.ensembles import Ensemble

log = logging.getLogger(__name__)

REVIEW_LIST = "doubts.json"
MAX_LOGGED = 5


def measure_doubt(
    case_id: str,
    mask: Label,
    probabilities: np.ndarray,
    network_masks: Sequence[np.ndarray],
    ensemble: Ensemble,
) -> Doubt:
    """Doubt about a mask, without a reason.

    Args:
        case_id: the case.
        mask: (Z,Y,X) post-processed.
        probabilities: (K,Z,Y,X) float16 on the mask's grid.
        network_masks: (Z,Y,X) bool each, the foreground that each network predicts alone; none to judge by the
            probabilities alone.
        ensemble: that predicted.
    """
    outputs = ensemble.plan.outputs
    possible = ClassProbabilities.cropped(probabilities, outputs)
    foreground = np.logical_or.reduce([mask.voxels > 0, *network_masks])
    box = join_boxes([possible.box, *([bounding_box(foreground)] if foreground.any() else [])], foreground.shape)
    inside, cropped = box_slices(box), possible.within(box)
    doubt = doubt_case(
        case_id,
        cropped.max(axis=0) if outputs.overlap else 1 - cropped[0],
        mask.voxels[inside] > 0,
        [network_mask[inside] for network_mask in network_masks],
        grid=mask.grid,
        box=box,
    )
    return doubt if ensemble.reliable else without_expectation([doubt])[0]


def write_review_list(output: Path, reviews: Sequence[CaseDoubt]) -> None:
    """Write the list of cases for review and log the first.

    Args:
        output: the folder of the masks.
        reviews: of all its cases.
    """
    ranked = rank_doubts([review.doubt for review in reviews])
    write_record(output / REVIEW_LIST, Doubts(cases=len(reviews), doubts=ranked))
    log.info("%d of %d cases for review; see %s", len(ranked), len(reviews), output / REVIEW_LIST)
    for doubt in ranked[:MAX_LOGGED]:
        log.info("%s: %s", doubt.case, doubt.reason)
