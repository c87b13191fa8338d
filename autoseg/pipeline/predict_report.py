"""``autoseg_predict --report``: lesions and pictures of each case, two tables and a page of all."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from autoseg.core.geometry import nearest_axes, turn
from autoseg.core.images import states_orientation
from autoseg.core.records import Case, CaseDoubt, CaseLesions, Image, Label
from autoseg.core.store import check_ours, write_bytes, write_record, write_text
from autoseg.prediction.derivatives import list_labels
from autoseg.prediction.ensembles import Ensemble, load_ensemble_plan, name_ensemble
from autoseg.prediction.records import CaseFiles, read_case_records
from autoseg.prediction.review import measure_doubt
from autoseg.reporting import (
    CASE_COLUMNS,
    LESION_COLUMNS,
    MasksContent,
    describe_lesions,
    draw_case,
    find_midline,
    list_lesions,
    list_targets,
    render_case_table,
    render_lesion_table,
    render_masks_page,
    view_planes,
)

log = logging.getLogger(__name__)

CASE_TABLE, LESION_TABLE, PAGE = "lesions_per_case.csv", "lesions.csv", "report.html"


def check_report(output: Path) -> None:
    """Refuse a folder whose tables or page autoseg did not write.

    Raises:
        UsageError: a file of these names is somebody else's.
    """
    for name, columns in {CASE_TABLE: CASE_COLUMNS, LESION_TABLE: LESION_COLUMNS}.items():
        check_ours(output / name, ",".join(columns[:6]))  # a later version may have more
    check_ours(output / PAGE, "Content-Security-Policy")


def write_case_report(
    files: CaseFiles, case: Case, image: Image, mask: Label, probabilities: np.ndarray, ensemble: Ensemble, key: str
) -> None:
    """Write a case's lesions, with its slices for the page, and its picture.

    Args:
        files: of the case.
        case: whose scan it is.
        image: (C,Z,Y,X) of the scan.
        mask: (Z,Y,X) on the same grid.
        probabilities: (K,Z,Y,X) float16 on the same grid.
        ensemble: that predicted.
        key: of the model.
    """
    plan, oriented = ensemble.plan, states_orientation(case.channels[0].path)
    midline = find_midline(image) if oriented else None
    labels = list_lesions(mask.voxels, probabilities, mask.grid, list_targets(plan), midline)
    transpose, flips = nearest_axes(image.grid.direction)  # the head is upright in the picture
    scan, shown = turn(image.voxels, transpose, flips), turn(mask.voxels, transpose, flips)
    spacing = [image.grid.spacing[axis] for axis in transpose]
    picture = draw_case(
        scan, None, shown, spacing=spacing, channels=plan.channels, title=case.id, lines=describe_lesions(labels)
    )
    planes = view_planes(scan, shown, spacing, list(list_labels(plan).values()))
    if not oriented:
        planes = tuple(plane.model_copy(update={"sides": ("", "")}) for plane in planes)
    doubt = measure_doubt(case.id, mask, probabilities, (), ensemble)
    write_bytes(files.overlay, picture)
    write_record(files.lesions, CaseLesions(case=case.id, model=key, labels=labels, doubt=doubt, planes=planes))


def write_report(output: Path, folder: Path, masks: Sequence[Path], failures: Mapping[str, str]) -> None:
    """Write a row per case to one table of lesions, a row per lesion to the other, and the page.

    Args:
        output: the folder of the masks.
        folder: of the model.
        masks: the finished ones.
        failures: case -> sentence without long paths.
    """
    cases = read_case_records(CaseLesions, output, masks, failures)
    write_text(output / CASE_TABLE, render_case_table(cases))
    write_text(output / LESION_TABLE, render_lesion_table(cases))
    plan = load_ensemble_plan(folder)
    content = MasksContent(
        made_at=time.strftime("%Y-%m-%d %H:%M"),
        model=name_ensemble(folder),
        channels=plan.channels,
        labels=tuple(list_labels(plan)),
        cases=cases,
        doubts={doubt.doubt.case: doubt.doubt for doubt in read_case_records(CaseDoubt, output, masks, failures)},
        failures=failures,
    )
    write_text(output / PAGE, render_masks_page(content))
    count = sum(len(label.lesions) for case in cases for label in case.labels.values())
    log.info("wrote %s, %s and %s: %d lesions in %d cases", output / PAGE, CASE_TABLE, LESION_TABLE, count, len(cases))
