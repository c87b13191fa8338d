"""``autoseg_predict --doubt``: which masks a person should look at, from how much the networks' own masks differ."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from autoseg.core.cropped_probabilities import BoxedProbabilities, join_boxes
from autoseg.core.geometry import bounding_box, box_slices
from autoseg.core.records import CaseDoubt, Doubts, Label, Outputs
from autoseg.core.store import read_record, write_record
from autoseg.evaluation.review import doubt_case, rank_doubts
from autoseg.prediction.records import RECORDS, MaskPlace, MaskRecord

log = logging.getLogger(__name__)

LIST = "doubts.json"
TOLD = 5  # in the log


def write_doubt(
    place: MaskPlace,
    case_id: str,
    mask: Label,
    probabilities: np.ndarray,
    voices: Sequence[np.ndarray],
    outputs: Outputs,
    made: MaskRecord,
) -> None:
    """Write what is doubtful about a mask.

    Args:
        place: of the case's files.
        case_id: the case.
        mask: finished.
        probabilities: (K,Z,Y,X) float16 on the mask's grid.
        voices: (Z,Y,X) bool each, the foreground of the mask that each network gives by itself.
        outputs: of the plan.
        made: the mask's record.
    """
    boxed = BoxedProbabilities.of(probabilities, overlap=outputs.overlap)
    there = np.logical_or.reduce([mask.voxels > 0, *voices])
    box = join_boxes([boxed.box, *([bounding_box(there)] if there.any() else [])], there.shape)
    shares, inside = boxed.within(box), box_slices(box)
    doubt = doubt_case(
        case_id,
        shares.max(axis=0) if outputs.overlap else 1 - shares[0],
        mask.voxels[inside] > 0,
        [voice[inside] for voice in voices],
        grid=mask.grid,
        box=box,
    )
    write_record(place.doubt, CaseDoubt(model=made.model, networks=len(voices), doubt=doubt))


def write_doubts(output: Path, masks: Sequence[Path], failed: Collection[str]) -> None:
    """Write the list of cases worth a look, from all that the model of these masks has in the folder.

    Other commands may have made some of them (``--part``).

    Args:
        output: the folder of the masks.
        masks: that are there.
        failed: cases to leave out, whatever is left of an earlier run.

    Raises:
        PlanError: a record is damaged.
    """
    again = "delete it and run the same command again"
    found = {
        path: read_record(CaseDoubt, path, advice=again) for path in sorted((output / RECORDS).glob("*.doubt.json"))
    }
    own = {found[path].model for mask in masks if (path := MaskPlace.of_mask(mask).doubt) in found}
    doubts = [case.doubt for case in found.values() if case.model in own and case.doubt.case not in failed]
    ranked = rank_doubts(doubts)
    write_record(output / LIST, Doubts(cases=len(doubts), doubts=ranked))
    log.info("%d of %d cases are worth a look; %s says why", len(ranked), len(doubts), output / LIST)
    for doubt in ranked[:TOLD]:
        log.info("%s: %s", doubt.case, doubt.reason)
