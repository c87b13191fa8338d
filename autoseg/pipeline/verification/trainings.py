"""Trainings of a verification by ``autoseg_train``: one that must learn."""

from __future__ import annotations

import math

from autoseg.core.records import VerifiedLine
from autoseg.options import TrainOptions
from autoseg.pipeline.train import train
from autoseg.pipeline.verification.workplace import SMALL, Workplace

LEAST_DICE = 0.3  # mean of the held-out cases


def verify_learning(place: Workplace) -> list[VerifiedLine]:
    """Train the recommended configuration for a minute, and score its held-out cases."""
    name, seconds = place.plan_small().recommended, place.scale.learning_s
    options = TrainOptions(
        dataset=SMALL,
        configuration=name,
        fold="0",
        time_budget_s=seconds,
        device=str(place.device),
        restart=True,
        postprocessing=False,
    )
    scores = train(place.store, options, progress=place.progress)
    values = [] if scores is None else [case.scores["lesion"]["dice"] for case in scores.cases]
    defined = [value for value in values if value is not None]
    dice = math.fsum(defined) / len(defined) if defined else 0.0
    is_good = dice >= LEAST_DICE
    return [
        VerifiedLine(
            name=f"{name} for {seconds:g} s",
            verdict="ok" if is_good else "failed",
            result=f"Dice {dice:.3f} over {len(defined)} held-out synthetic cases (bound {LEAST_DICE:g})",
            advice=""
            if is_good
            else "if the lines on numbers are ok, the device is slow or busy: end other programs and run this again; "
            "else mend those first",
            numbers={"dice": dice, "bound": LEAST_DICE},
        )
    ]
