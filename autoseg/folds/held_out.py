"""Predictions and scores of the cases that a fold held out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from autoseg.core.images import write_voxels
from autoseg.core.parallel import Progress
from autoseg.core.probabilities import ClassProbabilities, write_probabilities
from autoseg.core.records import Dataset, PreparedCase
from autoseg.folds.files import mask_path, probabilities_path
from autoseg.folds.setup import FoldSetup
from autoseg.model import load_model
from autoseg.prediction import predict_mask, predict_probabilities

log = logging.getLogger(__name__)


def predict_held_out(
    setup: FoldSetup,
    dataset: Dataset,
    cases: Mapping[str, PreparedCase],
    *,
    probabilities: bool,
    should_stop: Callable[[], bool],
    progress: Progress,
) -> bool:
    """Write masks of the held-out cases on their own grids; those that exist stay.

    Args:
        setup: a trained fold.
        dataset: with the raw scans.
        cases: id -> preprocessed case.
        probabilities: also write class probabilities.
        should_stop: asked before every case.
        progress: of the cases.

    Returns:
        False where it was stopped.
    """
    scans = {case.id: case.channels[0].path for case in dataset.cases}
    missing = [case for case in setup.fold.validation if not setup.is_predicted(case, probabilities=probabilities)]
    if not missing:
        return True
    model = load_model(setup.model_folder, [setup.fold_name], setup.device)
    for done, case_id in enumerate(missing):
        progress(done, len(missing), "predicting held-out cases")
        if should_stop():
            log.info("stopped; run the same command again to resume")
            return False
        case = cases[case_id]
        if probabilities:
            mask, predicted = predict_probabilities(model, case, setup.device)
            cropped = ClassProbabilities.cropped(predicted, setup.plan.outputs)
            write_probabilities(probabilities_path(setup.folder, case_id), cropped)
        else:
            mask = predict_mask(model, case, setup.device)
        write_voxels(mask_path(setup.folder, case_id), mask.voxels, mask.grid, like=scans[case_id])
    progress(len(missing), len(missing), "predicting held-out cases")
    return True
