"""Rules 1-2: the spacing to train at, and which axis comes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from autoseg.core.choices import Region
from autoseg.core.records import CaseFacts, Fingerprint
from autoseg.planning.text import count, join

COARSE_RATIO = 3.0
Orientation = Literal["canonical", "stored"]
AXES = {
    "canonical": ("head-foot", "front-back", "left-right"),
    "stored": ("first stored", "second stored", "third stored"),
}


@dataclass(frozen=True, kw_only=True)
class TargetGrid:
    """The grid to train on; its axes are in their new order.

    Attributes:
        orientation: of the axes before they were ordered.
        axis_order: permutation of those axes, the coarsest first.
        spacing: mm.
        shape: median over cases of the cropped, resampled shape in voxels.
        cases: how many cases these are medians of.
        region: that the cases are cropped to.
        reasons: field of the preprocessing settings -> why.
    """

    orientation: Orientation
    axis_order: tuple[int, int, int]
    spacing: tuple[float, ...]
    shape: tuple[float, ...]
    cases: int
    region: Region = "nonzero"
    reasons: dict[str, str]

    @property
    def is_coarse(self) -> bool:
        """Whether the first axis is much coarser than the others."""
        return self.spacing[0] > COARSE_RATIO * max(self.spacing[1:])


def plan_grid(fingerprint: Fingerprint, orientation: Orientation = "canonical") -> TargetGrid:
    """Choose spacing and axis order.

    Args:
        orientation: ``canonical`` plans on axes turned to the nearest (I->S, A->P, R->L) order, ``stored`` on the
            files' own.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z, supplementary note on image target spacing.
    """
    spacings, shapes = _measures(fingerprint, orientation)
    spacing, reason = choose_spacing(fingerprint, orientation)
    # 2. The coarsest axis first, so that "in plane" always means the last two; of slices the axis across them, whatever
    #    thickness their files state.
    thin = [axis for axis in range(3) if np.median(shapes[:, axis]) == 1]
    worst = thin[0] if thin else int(np.argmax(spacing))
    first, second, third = (worst, *(axis for axis in range(3) if axis != worst))
    median = np.median([_resample(*row, spacing) for row in zip(shapes, spacings, strict=True)], axis=0)
    order = f"The {AXES[orientation][worst]} axis comes first: its spacing ({spacing[worst]:.4g} mm) is the largest."
    if thin:
        order = f"The {AXES[orientation][worst]} axis comes first: the median case has 1 slice along it."
    elif min(spacing) == max(spacing):
        order = (
            f"All axes have the same spacing ({spacing[worst]:.4g} mm), so the {AXES[orientation][0]} axis comes first."
        )
    return TargetGrid(
        orientation=orientation,
        axis_order=(first, second, third),
        spacing=tuple(spacing[axis] for axis in (first, second, third)),
        shape=tuple(float(median[axis]) for axis in (first, second, third)),
        cases=len(fingerprint.cases),
        reasons={"spacing": reason, "axis_order": order},
    )


def choose_spacing(
    fingerprint: Fingerprint, orientation: Orientation = "canonical"
) -> tuple[tuple[float, float, float], str]:
    """The target spacing per axis (mm), and why."""
    spacings, shapes = _measures(fingerprint, orientation)
    # 1a. The median per axis: half of the cases lose detail, half are interpolated. As a percentile, which is what
    #    nnU-Net takes, it may differ from the plain median in the last bit, and a plan is compared to the bit.
    target = [float(s) for s in np.percentile(spacings, 50, axis=0)]
    shape = np.percentile(shapes, 50, axis=0)
    worst = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != worst]
    coarsest_other = max(target[axis] for axis in others)
    reason = f"{join(target)} mm is the median spacing per axis of {count(len(spacings), 'case')}"
    # 1b. An axis both coarse (spacing > 3 x) and short (3 x fewer voxels) would blur the better half of the cases,
    #     so it takes the 10th percentile of its spacings, but stays the coarsest, by 1e-5 mm if need be.
    is_coarse = target[worst] > COARSE_RATIO * coarsest_other
    is_short = shape[worst] * COARSE_RATIO < min(shape[axis] for axis in others)
    if not (is_coarse and is_short):
        reason += f"; no axis is over {COARSE_RATIO:.0f} times both coarser and shorter than the others."
        return (target[0], target[1], target[2]), reason
    median, fine = target[worst], float(np.percentile(spacings[:, worst], 10))
    target[worst] = fine if fine >= coarsest_other else coarsest_other + 1e-5
    return (target[0], target[1], target[2]), (
        f"{reason}, but the {AXES[orientation][worst]} axis is coarse ({median:.4g} mm against "
        f"{coarsest_other:.4g} mm) and short ({count(round(shape[worst]), 'voxel')}), so it takes the 10th "
        f"percentile of its spacings, but no less than the other axes: {target[worst]:.4g} mm."
    )


def _measures(fingerprint: Fingerprint, orientation: Orientation) -> tuple[np.ndarray, np.ndarray]:
    """(N,3) spacings in mm and (N,3) cropped shapes in voxels, on the axes to plan on."""
    orders = [_axes_of(case, orientation) for case in fingerprint.cases]
    pairs = list(zip(fingerprint.cases, orders, strict=True))
    spacings = [[case.spacing[axis] for axis in order] for case, order in pairs]
    shapes = [[case.cropped_shape[axis] for axis in order] for case, order in pairs]
    return np.array(spacings, dtype=float), np.array(shapes, dtype=np.int64)


def _axes_of(case: CaseFacts, orientation: Orientation) -> list[int]:
    """The canonical axis behind each axis to plan on."""
    return [0, 1, 2] if orientation == "canonical" else [case.transpose.index(axis) for axis in range(3)]


def _resample(shape: Sequence[int], spacing: Sequence[float], target: Sequence[float]) -> list[int]:
    # In nnU-Net's order, ratio first: where a half is rounded, the last bit decides.
    return [max(1, round(float(s) / t * int(n))) for n, s, t in zip(shape, spacing, target, strict=True)]
