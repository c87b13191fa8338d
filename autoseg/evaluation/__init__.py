"""Scores per case, their summary over cases, and both as text."""

from autoseg.evaluation.cases import DEFAULT_METRICS, score_case
from autoseg.evaluation.pairing import Pair, Pairing, pair_masks
from autoseg.evaluation.summary import MEAN, summarize
from autoseg.evaluation.tables import render_csv, render_table

__all__ = [
    "DEFAULT_METRICS",
    "MEAN",
    "Pair",
    "Pairing",
    "pair_masks",
    "render_csv",
    "render_table",
    "score_case",
    "summarize",
]
