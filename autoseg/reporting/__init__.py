"""Pictures of cases, progress of a training, tables of lesions and the HTML report.

The only room that imports matplotlib, contourpy, Pillow and jinja2.
"""

from autoseg.reporting.cases import draw_case
from autoseg.reporting.html import Picture, ReportContent, ShownScores, Training, render_report
from autoseg.reporting.html.check import CheckContent, render_check_page, view_planes
from autoseg.reporting.html.masks import MasksContent, render_masks_page
from autoseg.reporting.lesions import (
    CASE_COLUMNS,
    LESION_COLUMNS,
    describe_lesions,
    find_midline,
    list_lesions,
    list_targets,
    render_case_table,
    render_lesion_table,
)
from autoseg.reporting.progress import draw_progress
from autoseg.reporting.slices import cut_stack
from autoseg.reporting.tracking import TRACKERS, Tracker, open_tracker

__all__ = [
    "CASE_COLUMNS",
    "LESION_COLUMNS",
    "TRACKERS",
    "CheckContent",
    "MasksContent",
    "Picture",
    "ReportContent",
    "ShownScores",
    "Tracker",
    "Training",
    "cut_stack",
    "describe_lesions",
    "draw_case",
    "draw_progress",
    "find_midline",
    "list_lesions",
    "list_targets",
    "open_tracker",
    "render_case_table",
    "render_check_page",
    "render_lesion_table",
    "render_masks_page",
    "render_report",
    "view_planes",
]
