"""Scores per case, their summary over cases, comparisons of folders of scores, and all of it as text."""

from autoseg.evaluation.cases import score_case
from autoseg.evaluation.comparing import ComparableScores, align_scores, compare_pairs, rank_folders
from autoseg.evaluation.conventions import DEFAULT_METRICS, PRESETS, Convention, apply_preset, apply_scoring
from autoseg.evaluation.pairing import Pair, Pairing, pair_masks
from autoseg.evaluation.statistics import bootstrap_interval
from autoseg.evaluation.summary import MEAN, STRATA, summarize
from autoseg.evaluation.tables import (
    render_comparison,
    render_comparison_csv,
    render_csv,
    render_curve,
    render_experiment,
    render_summary_csv,
    render_table,
)

__all__ = [
    "DEFAULT_METRICS",
    "MEAN",
    "PRESETS",
    "STRATA",
    "ComparableScores",
    "Convention",
    "Pair",
    "Pairing",
    "align_scores",
    "apply_preset",
    "apply_scoring",
    "bootstrap_interval",
    "compare_pairs",
    "pair_masks",
    "rank_folders",
    "render_comparison",
    "render_comparison_csv",
    "render_csv",
    "render_curve",
    "render_experiment",
    "render_summary_csv",
    "render_table",
    "score_case",
    "summarize",
]
