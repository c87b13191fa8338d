"""Which case and which patch: a pure function of the random numbers handed in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoseg.core.records import Lesions, SamplingSettings

Seed = int | Sequence[int]


def sample_generator(seed: Seed, step: int, sample: int) -> np.random.Generator:
    """The random numbers of one sample of one step; no other sample, step or seed shares them."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(step, sample)))


def draw_case(cases: int, seed: Seed, position: int) -> int:
    """Which case the sample at a position of the endless row of samples comes from.

    All cases pass in a random order before any comes again, so short trainings see them equally often.

    Args:
        cases: how many there are.
        position: step * batch size + sample.
    """
    turn, place = divmod(position, cases)
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(turn,))).permutation(cases)
    return int(order[place])


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
        ignore_label: label value that is no lesion.
    """
    point = None
    if lesions is not None and is_forced(sample, batch_size, settings) and (lesions.label != ignore_label).any():
        by_lesion = rng.random() * (settings.foreground_share + settings.lesion_share) >= settings.foreground_share
        point = draw_point(rng, lesions, by_lesion=by_lesion, ignore_label=ignore_label)
    start = []
    for axis, (n, p) in enumerate(zip(shape, patch, strict=True)):
        if n <= p:
            start.append(-((p - n) // 2))
        elif point is None:
            start.append(int(rng.integers(n - p + 1)))
        else:  # inside the volume, so the point is off the centre only near a border
            start.append(min(max(int(point[axis]) - p // 2, 0), n - p))
    return tuple(start)


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
