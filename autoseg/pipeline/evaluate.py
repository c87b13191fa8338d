"""``autoseg_evaluate``: masks against labels, per case and label, with a summary."""

from __future__ import annotations

from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Scores
from autoseg.core.runs import RUN, recorded
from autoseg.core.store import Store
from autoseg.evaluation.folders import list_masks, score_folder
from autoseg.evaluation.scoring import CASE_SCORES, check_scores, write_scores
from autoseg.options import EvaluateOptions, command_line


def evaluate(store: Store, options: EvaluateOptions, *, progress: Progress = no_progress) -> Scores:
    """Score a folder of masks and write the scores beside them, or into the output folder.

    The scores of each case are stored, so that a second call scores only what has changed or is new.

    Raises:
        UsageError: a folder does not exist, or holds nothing to score.
        DataError: predictions are missing.
        CasesError: some pairs cannot be compared.
    """
    output = options.output or options.predictions
    check_scores(output)
    with recorded(store, output / f"scores.{RUN}", ("autoseg_evaluate", *command_line(options))) as run:
        scores = score_folder(store, options, cache=output / CASE_SCORES, progress=progress)
        run.begin()
        run.add_files("predictions", list_masks(options.predictions).values())
        write_scores(output, scores)
        return scores
