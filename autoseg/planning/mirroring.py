"""Rule 18: mirrored axes, all but those along which labels differ by their position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from autoseg.core.records import CaseFacts, Fingerprint
from autoseg.planning.text import join_words

AXES = ("head-foot", "front-back", "left-right")
ENOUGH_CASES = 5
SAME_SIDE = 0.9
APART = 0.1


@dataclass(frozen=True, kw_only=True)
class Mirroring:
    """The axes of a patch that may be mirrored, and one sentence on why these."""

    axes: tuple[int, ...]
    reason: str


def plan_mirroring(
    fingerprint: Fingerprint, axis_order: Sequence[int], dimensions: int, *, keeps_positional_axes: bool = True
) -> Mirroring:
    """Every axis of the patch, except those whose mirror image would turn one label into another.

    Args:
        axis_order: canonical axis of each axis of the volume.
        dimensions: of the patch; 2 is the last two axes of the volume.
        keeps_positional_axes: False mirrors all, as nnU-Net does.
    """
    positional = positional_axes(fingerprint) if keeps_positional_axes else {}
    canonical = [axis_order[axis] for axis in range(3 - dimensions, 3)]
    axes = tuple(number for number, axis in enumerate(canonical) if axis not in positional)
    clauses = [positional[axis] for axis in canonical if axis in positional]
    if not clauses:
        return Mirroring(
            axes=axes, reason=f"Mirrored along {'both' if dimensions == 2 else 'all'} axes, each with probability 0.5."
        )
    mirrored = join_words([AXES[canonical[axis]] for axis in axes])
    where = f"along the {mirrored} {'axis' if len(axes) == 1 else 'axes'} only" if axes else "along no axis"
    return Mirroring(axes=axes, reason=f"Mirrored {where}: {'; '.join(clauses)}.")


def positional_axes(fingerprint: Fingerprint) -> dict[int, str]:
    """Axes along which one label lies on the same side of another in nearly every case, each with the numbers.

    The mirror image of a front half is not a back half: a network trained on mirrored scans cannot separate such labels
    by position, and the mean over mirrored predictions blurs them. Lesion classes within each other (core, oedema) have
    no side, so nothing changes for them.

    Returns:
        Canonical axis (0 head-foot, 1 front-back, 2 left-right) -> one clause of reason.
    """
    clauses: dict[int, str] = {}
    for first, second in combinations(_names(fingerprint), 2):
        differences = _differences(fingerprint.cases, first, second)
        if len(differences) < ENOUGH_CASES:
            continue
        ahead = (differences > 0).mean(axis=0)
        for axis in range(3):
            same, distance = max(ahead[axis], 1 - ahead[axis]), abs(float(differences[:, axis].mean()))
            if same >= SAME_SIDE and distance >= APART:
                clauses.setdefault(
                    axis,
                    f"along the {AXES[axis]} axis {first} is on the same side of {second} in {same:.0%} of "
                    f"{len(differences)} cases, on average {distance:.0%} of the scan away",
                )
    return clauses


def _names(fingerprint: Fingerprint) -> tuple[str, ...]:
    ignored = (0, fingerprint.ignore_label)
    return tuple(name for name, value in fingerprint.labels.items() if value not in ignored)


def _differences(cases: Sequence[CaseFacts], first_label: str, second_label: str) -> np.ndarray:
    """(N,3) float: centre of one label minus centre of the other, shares of the scan; of the cases with both."""
    rows = []
    for case in cases:
        first, second = _centre(case, first_label), _centre(case, second_label)
        if first is not None and second is not None:
            rows.append(first - second)
    return np.array(rows).reshape(-1, 3)


def _centre(case: CaseFacts, label: str) -> np.ndarray | None:
    lesions = [lesion for lesion in case.lesions if lesion.label == label]
    if not lesions:
        return None
    return np.average([lesion.centre for lesion in lesions], axis=0, weights=[lesion.volume_ml for lesion in lesions])
