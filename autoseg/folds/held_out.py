"""Predictions and scores of the cases that a fold held out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from autoseg.core.errors import MemoryShortageError
from autoseg.core.images import write_voxels
from autoseg.core.parallel import Progress
from autoseg.core.probabilities import ClassProbabilities, read_probabilities, write_probabilities
from autoseg.core.records import Dataset, Label, PreparedCase
from autoseg.core.runs import note_case
from autoseg.folds.files import mask_path, probabilities_path
from autoseg.folds.postprocessing import SettingSearch
from autoseg.folds.setup import FoldSetup
from autoseg.model import Model, load_model
from autoseg.prediction import predict_mask, predict_probabilities

log = logging.getLogger(__name__)


def predict_held_out(
    setup: FoldSetup,
    dataset: Dataset,
    cases: Mapping[str, PreparedCase],
    probabilities: bool,
    search: SettingSearch | None,
    *,
    should_stop: Callable[[], bool],
    progress: Progress,
) -> bool:
    """Write masks of the held-out cases on their own grids; those that exist stay.

    Args:
        setup: a trained fold.
        dataset: with the raw scans.
        cases: id -> preprocessed case.
        probabilities: also write class probabilities.
        search: also score every post-processing; a case that lacks these scores alone is predicted again, unless its
            probabilities exist.
        should_stop: asked before every case.
        progress: of the cases.

    Returns:
        False where it was stopped.
    """
    scans = {case.id: case.channels[0].path for case in dataset.cases}
    unscored = [] if search is None else [c for c in setup.fold.validation if not search.is_scored(setup.folder, c)]
    unpredicted = [case for case in setup.fold.validation if not setup.is_predicted(case, probabilities=probabilities)]
    missing = [case for case in setup.fold.validation if case in unscored or case in unpredicted]
    model: Model | None = None
    for done, case_id in enumerate(missing):
        progress(done, len(missing), "predicting held-out cases")
        if should_stop():
            log.info("stopped; run the same command again to resume")
            return False
        if search is not None and setup.is_predicted(case_id, probabilities=True):
            path = probabilities_path(setup.folder, case_id)
            search.write(setup.folder, case_id, read_probabilities(path, advice="delete it and run the same command"))
            continue
        began = time.perf_counter()
        model = model or load_model(setup.model_folder, [setup.fold_name], setup.device)
        mask, cropped = _predict(model, cases[case_id], setup, required=probabilities, useful=case_id in unscored)
        if probabilities and cropped is not None:
            write_probabilities(probabilities_path(setup.folder, case_id), cropped)
        write_voxels(mask_path(setup.folder, case_id), mask.voxels, mask.grid, like=scans[case_id])
        if search is not None and cropped is not None:
            search.write(setup.folder, case_id, cropped)
        note_case(case_id, None, time.perf_counter() - began)
    if missing:
        progress(len(missing), len(missing), "predicting held-out cases")
    return True


def _predict(
    model: Model, case: PreparedCase, setup: FoldSetup, *, required: bool, useful: bool
) -> tuple[Label, ClassProbabilities | None]:
    """The mask of a case, and its probabilities where they are required, or are useful and fit into memory."""
    if required or useful:
        try:
            mask, predicted = predict_probabilities(model, case, setup.device)
            return mask, ClassProbabilities.cropped(predicted, setup.plan.outputs)
        except MemoryShortageError as error:
            if required:
                raise
            log.warning("case %s is left out of the search for post-processing: %s", case.id, error)
    return predict_mask(model, case, setup.device), None
