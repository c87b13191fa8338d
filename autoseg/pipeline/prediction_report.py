"""``autoseg_predict --report``: lesions and a picture of every case, and the tables of all of them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from autoseg.core.geometry import nearest_axes, turn
from autoseg.core.records import CaseLesions, Image, Label, Plan
from autoseg.core.store import read_record, write_bytes, write_record, write_text
from autoseg.prediction.records import RECORDS, CaseFiles, MaskRecord
from autoseg.reporting import describe_lesions, draw_case, list_lesions, render_case_table, render_lesion_table

log = logging.getLogger(__name__)

CASE_TABLE, LESION_TABLE = "lesions_per_case.csv", "lesions.csv"


def report_case(
    files: CaseFiles, case_id: str, image: Image, mask: Label, probabilities: np.ndarray, plan: Plan, made: MaskRecord
) -> None:
    """Write a case's lesions and its picture.

    Args:
        files: of the case.
        case_id: the case.
        image: the scan, (C,Z,Y,X) on its own grid.
        mask: on the same grid.
        probabilities: (K,Z,Y,X) float16 on the same grid.
        plan: of the model.
        made: the mask's record.
    """
    labels = list_lesions(mask.voxels, probabilities, mask.grid, list_targets(plan))
    transpose, flips = nearest_axes(image.grid.direction)  # pictures want the head upright
    picture = draw_case(
        turn(image.voxels, transpose, flips),
        None,
        turn(mask.voxels, transpose, flips),
        spacing=[image.grid.spacing[axis] for axis in transpose],
        channels=plan.channels,
        title=case_id,
        lines=describe_lesions(labels),
    )
    write_bytes(files.overlay, picture)
    write_record(files.lesions, CaseLesions(case=case_id, model=made.model, labels=labels))


def list_targets(plan: Plan) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Label or region -> the network's output, and the mask's values that belong to it."""
    outputs = plan.outputs
    return {
        name: (channel, plan.regions[name] if plan.regions else (value,))
        for channel, (name, value) in enumerate(zip(outputs.names, outputs.values, strict=True))
        if plan.regions or value != 0
    }


def write_tables(output: Path, masks: Sequence[Path], failed: Collection[str]) -> None:
    """Write both tables from the records of all cases that the model of these masks has in the folder.

    Other commands may have made some of them (``--part``).

    Args:
        output: the folder of the masks.
        masks: that are there.
        failed: cases to leave out, whatever is left of an earlier run.

    Raises:
        PlanError: a record is damaged.
    """
    again = "delete it and run the same command again"
    paths = sorted((output / RECORDS).glob("*.lesions.json"))
    found = {path: read_record(CaseLesions, path, advice=again) for path in paths}
    own = {found[path].model for mask in masks if (path := CaseFiles.of_mask(mask).lesions) in found}
    cases = sorted(
        (case for case in found.values() if case.model in own and case.case not in failed), key=lambda case: case.case
    )
    write_text(output / CASE_TABLE, render_case_table(cases))
    write_text(output / LESION_TABLE, render_lesion_table(cases))
    lesions = sum(len(label.lesions) for case in cases for label in case.labels.values())
    log.info("wrote %s and %s: %d lesions in %d cases", output / CASE_TABLE, LESION_TABLE, lesions, len(cases))
