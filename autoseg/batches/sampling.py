"""Choice of case and patch position: a pure function of the random numbers passed in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.core.records import Lesions, SamplingSettings

Seed = int | Sequence[int]


def sample_generator(seed: Seed, step: int, sample: int) -> np.random.Generator:
    """The random numbers of one sample of one step; no other sample, step or seed shares them."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(step, sample)))


def draw_case(cases: int, seed: Seed, position: int, *, stratum: int | None = None) -> int:
    """Number of the case at a position of the endless sequence of samples.

    All cases pass in a random order before any is repeated, so short trainings see them equally often.

    Args:
        cases: how many there are.
        position: step * batch size + sample, or in a stratum the samples drawn from it before.
        stratum: number of the sequence where there are several, each in an order of its own; None where there is one.
    """
    turn, place = divmod(position, cases)
    key = (turn,) if stratum is None else (turn, stratum, stratum)  # three numbers: no sample's stream has three
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key)).permutation(cases)
    return int(order[place])


@dataclass(frozen=True, kw_only=True)
class CaseSchedule:
    """The endless sequence of cases that samples come from, a pure function of seed, step and sample.

    Attributes:
        lesioned, empty: numbers of the cases with and without a lesion.
        empty_share: share of all samples that come from ``empty``; None draws every case alike.
        batch_size: samples of a step.
    """

    lesioned: tuple[int, ...]
    empty: tuple[int, ...]
    empty_share: float | None
    batch_size: int

    def draw(self, seed: Seed, step: int, sample: int) -> int:
        """The case of one sample.

        With a share, the first samples of a batch come from cases without a lesion, as many as the share of all samples
        so far asks for: the last ones of a batch are those that are centred on a lesion, and need one.
        """
        if self.empty_share is None or not self.lesioned or not self.empty:
            return draw_case(len(self.lesioned) + len(self.empty), seed, step * self.batch_size + sample)
        before = self._count_empty(step)
        now = self._count_empty(step + 1) - before
        if sample < now:
            return self.empty[draw_case(len(self.empty), seed, before + sample, stratum=1)]
        position = step * self.batch_size - before + sample - now
        return self.lesioned[draw_case(len(self.lesioned), seed, position, stratum=0)]

    def _count_empty(self, steps: int) -> int:
        """Samples of the first steps that come from cases without a lesion."""
        return math.floor(steps * self.batch_size * (self.empty_share or 0.0))


def make_case_schedule(
    cases: Sequence[Lesions | None], settings: SamplingSettings, *, batch_size: int, ignore_label: int | None = None
) -> CaseSchedule:
    """The sequence of cases that settings describe.

    Args:
        cases: where the lesions of each case lie.
        ignore_label: label value that is not a lesion.
    """
    holds = [lesions is not None and bool((lesions.label != ignore_label).any()) for lesions in cases]
    return CaseSchedule(
        lesioned=tuple(number for number, lesioned in enumerate(holds) if lesioned),
        empty=tuple(number for number, lesioned in enumerate(holds) if not lesioned),
        empty_share=settings.empty_case_share,
        batch_size=batch_size,
    )


def draw_start(
    rng: np.random.Generator,
    shape: Sequence[int],
    patch: Sequence[int],
    lesions: Lesions | None,
    settings: SamplingSettings,
    *,
    sample: int,
    batch_size: int,
    ignore_label: int | None = None,
) -> tuple[int, ...]:
    """The first voxel of a patch, negative where a small volume is centred in it.

    The last samples of a batch are forced onto a lesion; a case without any gives a uniform patch.

    Args:
        shape: voxels per axis of the volume.
        patch: voxels per axis of the patch; 1 along the first for 2D.
        lesions: where the case's lesions lie.
        sample: its number in the batch.
        ignore_label: label value that is not a lesion.
    """
    point = None
    if lesions is not None and is_forced(sample, batch_size, settings) and (lesions.label != ignore_label).any():
        by_lesion = rng.random() * (settings.foreground_share + settings.lesion_share) >= settings.foreground_share
        point = draw_point(rng, lesions, by_lesion=by_lesion, ignore_label=ignore_label)
    start = []
    chooses = patch[0] == 1 and point is None and (settings.slices != "all" or any(settings.slice_margin))
    if chooses:
        start.append(draw_slice(rng, shape[0], lesions, settings, ignore_label=ignore_label))
    for axis, (n, p) in list(enumerate(zip(shape, patch, strict=True)))[len(start) :]:
        if n <= p:
            start.append(-((p - n) // 2))
        elif point is None:
            start.append(int(rng.integers(n - p + 1)))
        else:  # inside the volume, so the point is off the centre only near a border
            start.append(min(max(int(point[axis]) - p // 2, 0), n - p))
    return tuple(start)


def draw_slice(
    rng: np.random.Generator,
    count: int,
    lesions: Lesions | None,
    settings: SamplingSettings,
    *,
    ignore_label: int | None = None,
) -> int:
    """A slice of a case, as ``settings.slices`` and ``settings.slice_margin`` ask for.

    Args:
        count: slices of the case.
        lesions: where its lesions lie; of very large ones some voxels stand for all.
        ignore_label: label value that is not a lesion.
    """
    first, end = settings.slice_margin[0], count - settings.slice_margin[1]
    if first >= end:
        first, end = count // 2, count // 2 + 1
    areas = np.zeros(count)
    if lesions is not None and settings.slices != "all":
        for number in np.flatnonzero(lesions.label != ignore_label):
            points = lesions.points[lesions.start[number] : lesions.start[number + 1], 0]
            np.add.at(areas, points, lesions.size[number] / len(points))
    areas = areas[first:end]
    if not areas.any():
        return int(rng.integers(first, end))
    weights = areas if settings.slices == "area" else (areas > 0).astype(float)
    return first + int(rng.choice(len(areas), p=weights / weights.sum()))


def is_forced(sample: int, batch_size: int, settings: SamplingSettings) -> bool:
    """Whether a sample of the batch must show a lesion: the last ones, and at least one if any share is above 0.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z: sample >= round(batch size * (1 - share)).
    """
    share = settings.foreground_share + settings.lesion_share
    free = min(round(batch_size * (1 - share)), batch_size - 1) if share > 0 else batch_size
    return sample >= free


def draw_point(
    rng: np.random.Generator, lesions: Lesions, *, by_lesion: bool, ignore_label: int | None = None
) -> np.ndarray:
    """A voxel of a lesion: label value uniform, then voxel uniform, or lesion uniform and then its voxel.

    Args:
        lesions: at least one that is not ignored.
        by_lesion: small lesions as often as large ones; otherwise in proportion to their size.

    Returns:
        (3,) int32 voxel index.
    """
    label = rng.choice([value for value in np.unique(lesions.label) if value != ignore_label])
    candidates = np.flatnonzero(lesions.label == label)
    size = lesions.size[candidates]
    lesion = rng.choice(candidates, p=None if by_lesion else size / size.sum())
    return lesions.points[rng.integers(lesions.start[lesion], lesions.start[lesion + 1])]
