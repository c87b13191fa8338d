"""One fold of one configuration, and the check that an earlier run of it agrees."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from autoseg.core.errors import ModelError
from autoseg.core.records import Configuration, Fold, Plan
from autoseg.core.store import hash_settings
from autoseg.folds.files import CHECKPOINT, FACTS, mask_path, probabilities_path, read_facts
from autoseg.model import WEIGHTS, fold_folder
from autoseg.training import ALONE, Ranks

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FoldSetup:
    """One fold of one configuration, ready to be trained.

    Attributes:
        plan: with the configuration.
        configuration_name: in the plan.
        fold_name: ``0``, ``1``, ... or ``all``.
        fold: ids of its training and held-out cases.
        model_folder: holds the plan and a folder for each fold.
        device: to train on.
        trackers: names of experiment trackers to log every epoch to.
        ranks: of this process among those that train together.
    """

    plan: Plan
    configuration_name: str
    fold_name: str
    fold: Fold
    model_folder: Path
    device: torch.device
    trackers: tuple[str, ...] = ()
    ranks: Ranks = ALONE

    @property
    def name(self) -> str:
        """Dataset, configuration and fold, for messages."""
        return f"{self.plan.dataset} {self.configuration_name} fold {self.fold_name}"

    @property
    def configuration(self) -> Configuration:
        """The configuration to train."""
        return self.plan.configurations[self.configuration_name]

    @property
    def time_budget_s(self) -> float | None:
        """Seconds of training instead of epochs, or None."""
        return self.configuration.training.time_budget_s

    @property
    def folder(self) -> Path:
        """The fold's own folder."""
        return fold_folder(self.model_folder, self.fold_name)

    @property
    def batch_seed(self) -> tuple[int, int]:
        """Seed of the batches, another one for each fold."""
        return self.plan.seed, int(hash_settings(self.fold_name), 16) % 2**31

    def is_finished(self) -> bool:
        """Whether the final weights are on disk."""
        return (self.folder / WEIGHTS).exists()

    def is_complete(self) -> bool:
        """Whether every held-out case has its mask, too."""
        return self.is_finished() and all(mask_path(self.folder, case).exists() for case in self.fold.validation)

    def is_predicted(self, case_id: str, *, probabilities: bool) -> bool:
        """Whether a held-out case has its mask and, if required, its class probabilities."""
        required = [mask_path(self.folder, case_id)] + [probabilities_path(self.folder, case_id)] * probabilities
        return all(path.exists() for path in required)

    def describe_length(self) -> str:
        """The requested length of the training, in words."""
        training = self.configuration.training
        return describe_length(self.time_budget_s, training.epochs, training.steps_per_epoch)


def describe_length(time_budget_s: float | None, epochs: int, steps_per_epoch: int) -> str:
    """Length of a training, in words."""
    return f"{epochs} epochs of {steps_per_epoch} steps" if time_budget_s is None else f"{time_budget_s:g} s"


def check_previous_run(setup: FoldSetup) -> None:
    """Refuse to resume a fold with other cases or another seed; log it where only the length has changed.

    Raises:
        ModelError: the fold was trained with other cases or from another seed.
    """
    folder, fold, seed = setup.folder, setup.fold, setup.plan.seed
    if not (folder / FACTS).exists():
        if (folder / CHECKPOINT).exists():
            raise ModelError(
                f"{folder} has a {CHECKPOINT} but no {FACTS} with its cases and seed; put {FACTS} back, or start again "
                f"with --restart"
            )
        return
    previous = read_facts(folder, advice="start again with --restart")
    moved = set(previous.train) ^ set(fold.train) | set(previous.validation) ^ set(fold.validation)
    if moved:
        raise ModelError(
            f"{folder} was trained on another split than folds.json now holds ({min(moved)} changed sides or is new); "
            f"put folds.json back, or start again with --restart"
        )
    if previous.seed != seed:
        raise ModelError(
            f"{folder} was begun with seed {previous.seed}, not {seed}; use --seed {previous.seed}, or start again "
            f"with --restart"
        )
    if not setup.ranks.leads or None in (previous.planned_epochs, previous.steps_per_epoch):
        return
    before = describe_length(previous.time_budget_s, previous.planned_epochs or 0, previous.steps_per_epoch or 0)
    if before != setup.describe_length() and setup.is_finished():
        log.warning(
            "%s was trained for %s; it is not trained for %s unless it starts again with --restart",
            setup.name,
            before,
            setup.describe_length(),
        )
    elif before != setup.describe_length():
        log.warning(
            "this training was begun for %s and resumes for %s; its learning rate follows the new length",
            before,
            setup.describe_length(),
        )
