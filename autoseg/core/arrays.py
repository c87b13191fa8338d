"""Preprocessed cases on disk: three arrays a case, and one small record written last that makes them count."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from autoseg.core.errors import PlanError, StaleError
from autoseg.core.records import Lesions, Placement, PreparedCase, Record
from autoseg.core.store import read_array, read_record, write_array, write_bytes, write_record
from autoseg.core.text import join_names

MAPPED_ABOVE_BYTES = 2**31
LARGEST_HALF = 65504.0


class PreparedFacts(Record):
    """Record beside the arrays of one case.

    Attributes:
        source_key: hash of the files that the arrays were made from.
        placement: of the voxels in the scan.
    """

    source_key: str
    placement: Placement


def store_image(image: np.ndarray, storage: Literal["float32", "float16"]) -> np.ndarray:
    """An image as it is stored: in half precision where rounding loses almost nothing.

    Every value then moves by at most 1/2048 of itself or, below 6e-5, by 3e-8. A case stays float32 as a whole when a
    value lies beyond the range of float16, or when rounding moves the non-zero voxels of a channel by more than a
    thousandth of their standard deviation (root mean square): a channel that was not normalised may be tiny, or far
    from 0.

    Args:
        image: (C,Z,Y,X) float32.

    Returns:
        (C,Z,Y,X) float32 or float16.
    """
    if storage == "float32":
        return image
    stored = np.empty(image.shape, np.float16)
    for channel, half in zip(image, stored, strict=True):
        if max(-float(channel.min()), float(channel.max())) > LARGEST_HALF:
            return image
        half[...] = channel
        if _lost_share(channel, half) > 1 / 1000:
            return image
    return stored


def _lost_share(channel: np.ndarray, half: np.ndarray) -> float:
    """Root mean square error of rounding as a share of the standard deviation, both of the voxels that are not zero.

    Slice by slice, so that it needs no memory. Zeros lose nothing, so sums over all voxels are sums over the others.

    Args:
        channel: (Z,Y,X) float32.
        half: (Z,Y,X) float16, the same rounded.
    """
    lost = total = squares = count = 0.0
    for exact, rounded in zip(channel, half, strict=True):
        error = rounded.astype(np.float32) - exact
        lost += float(np.vdot(error, error))
        total += float(exact.sum(dtype=np.float64))
        squares += float(np.vdot(exact, exact))
        count += np.count_nonzero(exact)
    if lost == 0:
        return 0.0
    # The difference of two nearly equal sums is not exact, but only where values lie so far from 0 that much is lost.
    spread = squares - total**2 / count
    return float(np.sqrt(lost / spread)) if spread > 0 else float("inf")


def write_prepared(folder: Path, case: PreparedCase, source_key: str) -> None:
    """Write a preprocessed case; until its record is there, it does not exist."""
    write_array(folder / f"{case.id}.image.npy", case.image)
    if case.label is not None and case.lesions is not None:
        write_array(folder / f"{case.id}.label.npy", case.label)
        buffer = io.BytesIO()
        lesions = case.lesions
        np.savez(buffer, label=lesions.label, size=lesions.size, start=lesions.start, points=lesions.points)
        write_bytes(folder / f"{case.id}.lesions.npz", buffer.getvalue())
    write_record(_facts_path(folder, case.id), PreparedFacts(source_key=source_key, placement=case.placement))


def write_prior(folder: Path, case_id: str, prior: np.ndarray, placement: Placement, source_key: str) -> None:
    """Write the prior of a cascade's case into a folder of priors; until its record is there, it does not exist."""
    write_array(_prior_path(folder, case_id), prior)
    write_record(_facts_path(folder, case_id), PreparedFacts(source_key=source_key, placement=placement))


def is_prepared(folder: Path, case_id: str, source_key: str) -> bool:
    """True when the arrays, or the prior, of the case are whole and made from these files."""
    path = _facts_path(folder, case_id)
    if not path.exists():
        return False
    try:
        return read_record(PreparedFacts, path, advice="").source_key == source_key
    except PlanError:
        return False


def read_placement(folder: Path, case_id: str, *, advice: str) -> Placement:
    """Placement of a preprocessed case in its scan, without its arrays.

    Raises:
        PlanError: its record is missing or damaged; the message ends with ``advice``.
    """
    return read_record(PreparedFacts, _facts_path(folder, case_id), advice=advice).placement


def read_prepared(folder: Path, case_ids: Iterable[str], *, advice: str) -> list[PreparedCase]:
    """Open preprocessed cases: in memory when all are small together, else mapped from disk.

    Raises:
        StaleError: arrays of a case are missing; the message ends with ``advice``.
    """
    ids = list(case_ids)
    missing = [case_id for case_id in ids if not _facts_path(folder, case_id).exists()]
    if missing:
        raise StaleError(
            f"{folder} lacks the arrays of {len(missing)} cases ({join_names(missing, limit=3)}); {advice}"
        )
    mapped = sum((folder / f"{case_id}.image.npy").stat().st_size for case_id in ids) > MAPPED_ABOVE_BYTES
    return [_read_one(folder, case_id, mapped, advice) for case_id in ids]


def read_priors(folder: Path, cases: Iterable[PreparedCase], *, advice: str) -> list[PreparedCase]:
    """The cases with their priors from a folder of priors: in memory when all are small together, else mapped.

    Raises:
        StaleError: a prior is missing or damaged; the message ends with ``advice``.
    """
    cases = list(cases)
    paths = [_prior_path(folder, case.id) for case in cases]
    try:
        mapped = sum(path.stat().st_size for path in paths) > MAPPED_ABOVE_BYTES
        priors = [read_array(path, mapped=mapped) for path in paths]
    except (OSError, ValueError) as error:
        raise StaleError(f"a prior in {folder} is missing or damaged ({error}); {advice}") from error
    return [replace(case, prior=prior) for case, prior in zip(cases, priors, strict=True)]


def _read_one(folder: Path, case_id: str, mapped: bool, advice: str) -> PreparedCase:
    facts = read_record(PreparedFacts, _facts_path(folder, case_id), advice=advice)
    try:
        image = read_array(folder / f"{case_id}.image.npy", mapped=mapped)
        label_path = folder / f"{case_id}.label.npy"
        if not label_path.exists():
            return PreparedCase(id=case_id, image=image, label=None, placement=facts.placement, lesions=None)
        with np.load(folder / f"{case_id}.lesions.npz", allow_pickle=False) as stored:
            lesions = Lesions(**{name: stored[name] for name in ("label", "size", "start", "points")})
        label = read_array(label_path, mapped=mapped)
    except (OSError, ValueError, KeyError) as error:
        raise StaleError(f"the arrays of case {case_id} in {folder} are damaged ({error}); {advice}") from error
    return PreparedCase(id=case_id, image=image, label=label, placement=facts.placement, lesions=lesions)


def _prior_path(folder: Path, case_id: str) -> Path:
    return folder / f"{case_id}.prior.npy"


def _facts_path(folder: Path, case_id: str) -> Path:
    return folder / f"{case_id}.json"
