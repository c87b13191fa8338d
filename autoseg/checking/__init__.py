"""Faults of raw cases: signs measured in each, compared with the others, ranked; and the repairs that are safe."""

from autoseg.checking.measures import CaseSigns, OpenedCase, open_case
from autoseg.checking.rules import KINDS, find_suspicions
from autoseg.checking.text import render_suspicions

__all__ = ["KINDS", "CaseSigns", "OpenedCase", "find_suspicions", "open_case", "render_suspicions"]
