"""Pictures: a case beside its reference, and how training went. The only room that knows matplotlib."""

from autoseg.report.cases import draw_case
from autoseg.report.progress import draw_progress

__all__ = ["draw_case", "draw_progress"]
