"""What people look at: cases beside their references, how training went, and the report of it all.

The only room that knows matplotlib.
"""

from autoseg.report.cases import draw_case
from autoseg.report.html import Picture, ReportContent, ShownScores, Training, render_report
from autoseg.report.progress import draw_progress
from autoseg.report.slices import cut_stack
from autoseg.report.tracking import TRACKERS, Tracker, open_tracker

__all__ = [
    "TRACKERS",
    "Picture",
    "ReportContent",
    "ShownScores",
    "Tracker",
    "Training",
    "cut_stack",
    "draw_case",
    "draw_progress",
    "open_tracker",
    "render_report",
]
