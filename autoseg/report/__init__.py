"""What people look at: a case beside its reference, and how training went. The only room that knows matplotlib."""

from autoseg.report.cases import draw_case
from autoseg.report.progress import draw_progress
from autoseg.report.tracking import TRACKERS, Tracker, open_tracker

__all__ = ["TRACKERS", "Tracker", "draw_case", "draw_progress", "open_tracker"]
