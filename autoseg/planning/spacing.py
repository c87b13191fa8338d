"""Rules 1-2: the spacing to train at, and which axis comes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.core.geometry import resampled_shape
from autoseg.core.records import Fingerprint
from autoseg.fingerprint import median_cropped_shape, median_spacing

COARSE_RATIO = 3.0
AXES = ("head-foot", "front-back", "left-right")


@dataclass(frozen=True, kw_only=True)
class TargetGrid:
    """The grid to train on, on axes already in their new order.

    Attributes:
        axis_order: permutation of the canonical axes, the coarsest first.
        spacing: mm.
        shape: median over cases of the cropped, resampled shape in voxels.
        cases: how many cases these are medians of.
        reasons: field of the preprocessing settings -> why.
    """

    axis_order: tuple[int, int, int]
    spacing: tuple[float, ...]
    shape: tuple[float, ...]
    cases: int
    reasons: dict[str, str]

    @property
    def is_coarse(self) -> bool:
        """Whether the first axis is much coarser than the others."""
        return self.spacing[0] > COARSE_RATIO * max(self.spacing[1:])


def plan_grid(fingerprint: Fingerprint) -> TargetGrid:
    """Choose spacing and axis order.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z, supplementary note on image target spacing.
    """
    spacing, why = choose_spacing(fingerprint)
    # Rule 2. The coarsest axis first, so that "in plane" always means the last two.
    worst = int(np.argmax(spacing))
    first, second, third = (worst, *(axis for axis in range(3) if axis != worst))
    shapes = [resampled_shape(case.cropped_shape, case.spacing, spacing) for case in fingerprint.cases]
    median = np.median(np.asarray(shapes), axis=0)
    order = f"The {AXES[worst]} axis comes first: none has a larger spacing than its {spacing[worst]:.4g} mm."
    ordered = tuple(spacing[axis] for axis in (first, second, third))
    return TargetGrid(
        axis_order=(first, second, third),
        spacing=ordered,
        shape=tuple(float(median[axis]) for axis in (first, second, third)),
        cases=len(fingerprint.cases),
        reasons={"spacing": why, "axis_order": order},
    )


def choose_spacing(fingerprint: Fingerprint) -> tuple[tuple[float, ...], str]:
    """The target spacing on canonical axes (mm), and why."""
    # 1. The median per axis: half of the cases lose detail, half are interpolated.
    target = list(median_spacing(fingerprint))
    shape = median_cropped_shape(fingerprint)
    cases = len(fingerprint.cases)
    worst = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != worst]
    finest_other = max(target[axis] for axis in others)
    why = f"{join(target)} mm is the median spacing per axis of {cases} cases"
    # 1b. An axis both coarse (spacing > 3 x) and short (3 x fewer voxels) would blur the better half of the cases,
    #     so it takes the 10th percentile of its spacings, but never finer than the other axes.
    is_coarse = target[worst] > COARSE_RATIO * finest_other
    is_short = shape[worst] * COARSE_RATIO < min(shape[axis] for axis in others)
    if not (is_coarse and is_short):
        return tuple(
            target
        ), why + f"; no axis is more than {COARSE_RATIO:.0f} times coarser and shorter than the rest."
    fine = float(np.percentile([case.spacing[worst] for case in fingerprint.cases], 10))
    median = target[worst]
    target[worst] = max(fine, finest_other)
    return tuple(target), (
        f"{why}, but the {AXES[worst]} axis is coarse ({median:.4g} mm against {finest_other:.4g} mm) and short "
        f"({shape[worst]:.0f} voxels), so it takes the 10th percentile of its spacings, {target[worst]:.4g} mm."
    )


def join(numbers: Sequence[float]) -> str:
    """Numbers as ``24 x 256 x 256``."""
    return " x ".join(f"{n:.4g}" for n in numbers)
