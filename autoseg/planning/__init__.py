"""Fingerprint and budget -> plan: every value with its reason, the folds, and a page that explains them. No torch."""

from autoseg.planning.explain import explain_plan
from autoseg.planning.folds import make_folds, read_folds_content
from autoseg.planning.plan import make_plan
from autoseg.planning.pricing import price_step

__all__ = ["explain_plan", "make_folds", "make_plan", "price_step", "read_folds_content"]
