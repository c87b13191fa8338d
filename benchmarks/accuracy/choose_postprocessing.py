"""How often post-processing is chosen on few held-out cases, and what it is then worth on others.

    python benchmarks/accuracy/choose_postprocessing.py

Cases are made of components: lesions that the network finds, with an error in size that a threshold mends or makes
worse, and false islands. Each setting's Dice follows from their volumes. Of 3,000 cases of a kind, a few are drawn
again and again, autoseg chooses on them, and the choice is judged on all 3,000. The last columns say what other rules
would have given.
"""

from __future__ import annotations

from dataclasses import dataclass
from unittest.mock import patch

import numpy as np

from autoseg.evaluation import postprocessing
from autoseg.evaluation.postprocessing import SETTINGS, THRESHOLDS, choose_settings, group_patients

POOL, DRAWS = 3000, 200
SIZES = (5, 10, 20, 40, 80)
RULES = (0.0, 0.5, 1.0, 2.0)  # standard errors that a gain must reach


@dataclass(frozen=True)
class Kind:
    """A dataset and a network on it.

    Attributes:
        islands: mean number of false islands in a case.
        island_share: median volume of an island, as a share of the lesion's.
        several: share of the cases with a second and a third lesion.
        bias: log of the predicted over the true size at the usual threshold.
    """

    islands: float
    island_share: float
    several: float
    bias: float


KINDS = {
    "one lesion, clean masks": Kind(0.2, 0.02, 0.0, 0.0),
    "several lesions, clean masks": Kind(0.2, 0.02, 0.6, 0.0),
    "one lesion, small islands": Kind(3, 0.02, 0.05, 0.0),
    "one lesion, large islands": Kind(8, 0.05, 0.05, 0.0),
    "several lesions, small islands": Kind(3, 0.02, 0.6, 0.0),
    "one lesion, masks too large": Kind(0.2, 0.02, 0.05, 0.2),
}


def make_case(kind: Kind, rng: np.random.Generator) -> np.ndarray:
    """(S,) Dice of a case with each of ``SETTINGS``."""
    volumes = [np.exp(rng.normal(2.5, 1.0))]  # ml
    if rng.random() < kind.several:
        volumes += list(volumes[0] * rng.uniform(0.05, 0.8, 2))
    lesions = [(volume, kind.bias + rng.normal(0, 0.25), rng.uniform(0.7, 0.95)) for volume in volumes]
    count = rng.poisson(kind.islands)
    islands = list(
        zip(volumes[0] * kind.island_share * np.exp(rng.normal(0, 1, count)), rng.uniform(0.5, 1, count), strict=True)
    )
    scores = {}
    for threshold in THRESHOLDS:
        level = threshold or 0.5
        components = []
        for volume, bias, quality in lesions:
            size = volume * np.exp(bias - 0.8 * (level - 0.5))
            components.append((size, quality * min(size, volume)))
        components += [(volume * (1.5 - level), 0.0) for volume, surest in islands if surest > level]
        ranked = np.array(sorted(components, reverse=True)).reshape(-1, 2)
        for setting in SETTINGS:
            if setting.threshold == threshold:
                stays = ranked[ranked[:, 0] >= setting.smallest_lesion_ml][: setting.largest_lesions]
                scores[setting] = 2 * stays[:, 1].sum() / (stays[:, 0].sum() + sum(volumes))
    return np.array([scores[setting] for setting in SETTINGS])


def main() -> None:
    rng = np.random.default_rng(0)
    rules = " ".join(f"{f'{rule:g} SE':>14}" for rule in RULES)
    print(f"{'kind':32} {'cases':>5} {'best':>6} {rules}   (share chosen, mean true gain)")
    for name, kind in KINDS.items():
        pool = np.array([make_case(kind, rng) for _ in range(POOL)])
        means = pool.mean(axis=0) - pool[:, 0].mean()
        for size in SIZES:
            drawn = [pool[rng.choice(POOL, size, replace=False)] for _ in range(DRAWS)]
            cells = []
            for rule in RULES:
                with patch.object(postprocessing, "MIN_STANDARD_ERRORS", rule):
                    gains = [choose_gain(table, means) for table in drawn]
                chosen = [gain for gain in gains if gain is not None]
                cells.append(f"{len(chosen) / DRAWS:6.2f} {sum(chosen) / DRAWS:+.4f}")
            print(f"{name:32} {size:5} {means.max():+.3f} {' '.join(f'{cell:>14}' for cell in cells)}", flush=True)


def choose_gain(table: np.ndarray, means: np.ndarray) -> float | None:
    """The true gain of what is chosen on (N,S) scores; None where nothing is."""
    patients = [str(number) for number in range(len(table))]
    settings, _ = choose_settings({"lesion": table}, group_patients(patients), patients, higher_is_better=True)
    return float(means[SETTINGS.index(settings["lesion"])]) if settings else None


if __name__ == "__main__":
    main()
