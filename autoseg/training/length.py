"""Length of a training, in steps or in seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from autoseg.core.records import TrainingSettings
from autoseg.training.distributed import Ranks
from autoseg.training.state import TrainingState


@dataclass(frozen=True, kw_only=True)
class TrainingLength:
    """Length of a training; with a time budget, the steps do not count."""

    steps: int
    time_budget_s: float | None

    @classmethod
    def of(cls, settings: TrainingSettings, time_budget_s: float | None) -> Self:
        """The planned length, or the time budget."""
        return cls(steps=settings.epochs * settings.steps_per_epoch, time_budget_s=time_budget_s)

    def progress(self, state: TrainingState, ranks: Ranks) -> float:
        """Share of the training that is done, the same in all processes, although their clocks differ."""
        if self.time_budget_s is None:
            return min(state.step / self.steps, 1.0)
        return ranks.largest(min(state.elapsed_s / self.time_budget_s, 1.0))

    def describe_progress(self, state: TrainingState) -> tuple[int, int, str]:
        """Done, total and a clause, for a progress callback."""
        loss = state.mean_loss
        facts = ["no loss yet" if math.isnan(loss) else f"loss {loss:.4f}"]
        if state.best_score is not None:
            facts.append(f"best Dice {state.best_score:.3f}")
        if self.time_budget_s is None:
            return state.step, self.steps, ", ".join(["training steps", f"epoch {state.epoch + 1}", *facts])
        budget_s = int(self.time_budget_s)
        text = ", ".join(["training seconds", f"step {state.step:,}", *facts])
        return min(int(state.elapsed_s), budget_s), budget_s, text
