"""Post-processing of a model: every setting scored in each held-out case, and the choice over all trained folds."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from autoseg.core.geometry import bounding_box
from autoseg.core.probabilities import ClassProbabilities, join_boxes
from autoseg.core.records import Case, Dataset, ModelPostProcessing, Outputs
from autoseg.core.store import hash_settings, replacing, write_record
from autoseg.datasets import read_label
from autoseg.evaluation.cases import name_targets
from autoseg.evaluation.postprocessing import (
    MIN_PATIENTS,
    SETTINGS,
    SearchCase,
    choose_settings,
    describe_setting,
    group_patients,
    mean_targets,
    score_settings,
)
from autoseg.evaluation.selection import EMPTY_SCORE
from autoseg.folds.files import FACTS, read_facts, table_path
from autoseg.metrics import METRICS
from autoseg.model import POSTPROCESSING, fold_folder, trained_folds
from autoseg.preparation import case_key

log = logging.getLogger(__name__)

TARGET = "dice"


@dataclass(frozen=True, kw_only=True)
class SettingSearch:
    """The scores of every setting in held-out cases, one file per case, and what they choose.

    Attributes:
        dataset: with the labels.
        outputs: of the plan.
    """

    dataset: Dataset
    outputs: Outputs

    @cached_property
    def _cases(self) -> dict[str, Case]:
        return {case.id: case for case in self.dataset.cases}

    @cached_property
    def _settings_key(self) -> str:
        return hash_settings(self.outputs, self._targets, TARGET, EMPTY_SCORE, SETTINGS)

    @cached_property
    def _targets(self) -> dict[str, tuple[int, ...]]:
        return name_targets(self.dataset)

    def is_scored(self, folder: Path, case_id: str) -> bool:
        """Whether the scores of a case of a fold are on disk."""
        return self.read(folder, case_id) is not None

    def read(self, folder: Path, case_id: str) -> dict[str, np.ndarray] | None:
        """Label -> (S,) float64, the scores of a case; None if they are missing, damaged or of other files.

        Args:
            folder: of the fold.
            case_id: of a held-out case.
        """
        if case_id not in self._cases:
            return None
        try:
            with np.load(table_path(folder, case_id), allow_pickle=False) as stored:
                if str(stored["key"]) != self._key(case_id):
                    return None
                return dict(zip(self._targets, stored["scores"], strict=True))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None  # the case is scored again

    def write(self, folder: Path, case_id: str, probabilities: ClassProbabilities) -> None:
        """Score every setting in a case.

        Args:
            folder: of the fold.
            case_id: of a held-out case.
            probabilities: its prediction.

        Raises:
            DataError: its label cannot be read.
            StorageError: the disk refuses.
        """
        label = read_label(self.dataset, self._cases[case_id])
        marked = label.voxels != 0
        boxes = [probabilities.box, *([bounding_box(marked)] if marked.any() else [])]
        box = join_boxes(boxes, marked.shape)
        case = SearchCase.of(probabilities.within(box), box, label, self.dataset.ignore_label)
        scores = score_settings(case, self.outputs, self._targets, metric=TARGET, empty_score=EMPTY_SCORE)
        with replacing(table_path(folder, case_id)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, key=self._key(case_id), scores=np.stack([scores[name] for name in self._targets]))

    def choose(self, model_folder: Path) -> ModelPostProcessing:
        """Choose over the held-out cases of all folds that are trained and scored; write the record and log it.

        Raises:
            StorageError: the disk refuses.
        """
        chosen = self._choose(model_folder)
        write_record(model_folder / POSTPROCESSING, chosen)
        if chosen.settings:
            settings = (f"{label}: {describe_setting(setting)}" for label, setting in chosen.settings.items())
            log.info("post-processing of %s; %s", "; of ".join(settings), chosen.reason)
        else:
            log.info("post-processing: %s", chosen.reason)
        return chosen

    def _choose(self, model_folder: Path) -> ModelPostProcessing:
        tables = self._read_folds(model_folder)
        ids = [case for fold in tables.values() for case in fold]
        patients = [self._cases[case].group or case for case in ids]
        record = ModelPostProcessing(
            reason=f"{len(set(patients))} patients are held out by its finished folds, and a choice needs "
            f"{MIN_PATIENTS}; masks are unchanged",
            target_metric=TARGET,
            empty_score=EMPTY_SCORE,
            folds=tuple(tables),
            cases=len(ids),
            patients=len(set(patients)),
        )
        if record.patients < MIN_PATIENTS:
            return record
        rows = [case for fold in tables.values() for case in fold.values()]
        stacked = {name: np.stack([row[name] for row in rows]) for name in self._targets}
        groups = group_patients(patients)
        higher_is_better = METRICS[TARGET].higher_is_better
        settings, of_group = choose_settings(stacked, groups, patients, higher_is_better=higher_is_better)
        before, after = mean_targets(stacked, groups, of_group)
        reason = f"no setting improved the {len(ids)} held-out cases by more than noise; masks are unchanged"
        if settings:
            reason = (
                f"mean {TARGET} of {len(ids)} held-out cases {before:.4f} without and {after:.4f} with it, chosen on "
                f"other patients"
            )
        update = {"settings": settings, "reason": reason, "target_before": before, "target_after": after}
        return record.model_copy(update=update)

    def _read_folds(self, model_folder: Path) -> dict[str, Mapping[str, dict[str, np.ndarray]]]:
        """Fold -> held-out case -> its scores, of the folds that lack none."""
        tables: dict[str, Mapping[str, dict[str, np.ndarray]]] = {}
        for fold in trained_folds(model_folder):
            folder = fold_folder(model_folder, fold)
            if not (folder / FACTS).exists():
                continue  # of an imported model
            held_out = read_facts(folder, advice="start again with --restart").validation
            scores = {case: found for case in held_out if (found := self.read(folder, case)) is not None}
            if held_out and len(scores) == len(held_out):
                tables[fold] = scores
        return tables

    def _key(self, case_id: str) -> str:
        return hash_settings(self._settings_key, case_key(self.dataset, self._cases[case_id]))
