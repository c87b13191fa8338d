"""Signs of faults in one case: measured from its voxels, compared with other cases later."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import product

import fill_voids
import numpy as np
from scipy.ndimage import binary_dilation, uniform_filter

from autoseg.core.errors import DataError
from autoseg.core.geometry import Box, bounding_box, box_slices, nearest_axes, turn
from autoseg.core.images import read_voxels
from autoseg.core.masks import find_bright
from autoseg.core.records import Case, CaseFacts, Dataset, Image, Label
from autoseg.core.store import sha256
from autoseg.core.text import six_digits
from autoseg.datasets import check_extent, read_image, read_label
from autoseg.datasets.reading import find_repeated_channels, place_label
from autoseg.fingerprint import measure_case

COARSE = 64  # voxels per axis, at most, of the copy that the head is found in
THUMBNAIL = 20  # voxels per axis of the head as it is compared with other heads
MOST_VOXELS = 100_000  # of a mask, to measure the intensities below it
MOST_VALUES = 20
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)  # quantiles
MIRRORS = tuple(product((False, True), repeat=3))  # of (z,y,x); the first is the mask as it is


@dataclass(frozen=True, kw_only=True)
class CaseSigns:
    """One case as far as it can be read; axes are turned to the canonical orientation.

    Attributes:
        case: its id.
        group: patient; None: the case itself.
        problem: sentence on why the case cannot be read; empty if it can.
        facts: measurements; None if the case cannot be read.
        copied_channel: channel that the mask holds the voxels of; empty if none.
        values: values on disk of the mask but 0, as far as it can be read, at most 20.
        mask_hash: of the mask's voxels; empty for an empty mask or none.
        repeated_channels: pairs of channels with the same voxels, as clauses.
        flat_channel: channel with no more values than a mask has; empty if none.
        head_ml: volume of the head.
        head_mm: its extent along (z,y,x).
        outside_share: share of the mask outside the head.
        cut_share: largest share that a border of the scan has of the mask's largest section along the same axis.
        contrasts: (8,C) float, mean intensity below the mask and below its mirror images (``MIRRORS``), in standard
            deviations of the head; None without mask.
        levels: (C,6) float, ``LEVELS`` of the head, in standard deviations of the head; None if it cannot be read.
        thumbnails: (C,20,20,20) float32, the head, in standard deviations of the head; None if it cannot be read.
        positions: (20,20,20) float32, share of the mask at each place of the head; None without mask.
    """

    case: str
    group: str | None = None
    problem: str = ""
    facts: CaseFacts | None = None
    copied_channel: str = ""
    values: tuple[float, ...] = ()
    mask_hash: str = ""
    repeated_channels: tuple[str, ...] = ()
    flat_channel: str = ""
    head_ml: float = 0.0
    head_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    outside_share: float = 0.0
    cut_share: float = 0.0
    contrasts: np.ndarray | None = field(default=None, compare=False)
    levels: np.ndarray | None = field(default=None, compare=False)
    thumbnails: np.ndarray | None = field(default=None, compare=False)
    positions: np.ndarray | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True)
class _Head:
    """A coarse copy of the scan and its head.

    Attributes:
        scan: (C,z,y,x) float32.
        mask: (z,y,x) bool.
        steps: voxels of the scan per coarse voxel along each axis.
    """

    scan: np.ndarray
    mask: np.ndarray
    steps: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class OpenedCase:
    """Voxels of a case as far as its files can be read, on axes turned to the canonical orientation.

    Attributes:
        signs: measured from them.
        scan: (C,Z,Y,X) float32, scanner units; None if it cannot be read.
        mask: (Z,Y,X) integer; of a label that cannot be used, 1 where the file is not 0; None if there is none.
        spacing: mm along (z,y,x).
    """

    signs: CaseSigns
    scan: np.ndarray | None
    mask: np.ndarray | None
    spacing: tuple[float, ...]


def open_case(dataset: Dataset, case: Case) -> OpenedCase:
    """Read a case and measure its signs; whatever is wrong with its files is one of them."""
    problems: list[str] = []
    try:
        options = {"resample_channels": dataset.resample_channels, "spacing": case.spacing}
        image = read_image(case.id, case.channels, dataset.channels, **options)  # type: ignore[arg-type]
    except DataError as error:
        signs = CaseSigns(case=case.id, group=case.group, problem=str(error))
        return OpenedCase(signs=signs, scan=None, mask=None, spacing=(1.0, 1.0, 1.0))
    try:
        check_extent(case.id, case.channels[0].path, image.grid)
    except DataError as error:
        problems.append(str(error))
    disk = _read_disk(case, problems)
    label = None
    if disk is not None:
        try:
            label = place_label(case, read_label(dataset, case), image)
        except DataError as error:
            problems.append(str(error))
    transpose, flips = nearest_axes(image.grid.direction)
    scan = turn(image.voxels, transpose, flips)
    mask = None if label is None else turn(label.voxels, transpose, flips)
    if mask is None and disk is not None and disk.shape == image.voxels.shape[1:]:
        mask = turn((disk != 0).astype(np.int16), transpose, flips)
    spacing = tuple(image.grid.spacing[axis] for axis in transpose)
    usable = None if label is None or mask is None else np.isin(mask, _foreground(dataset)).astype(np.int16)
    signs = CaseSigns(
        case=case.id,
        group=case.group,
        problem=problems[0] if problems else "",
        facts=None if problems else measure_facts(dataset, case, image, label),
        copied_channel=_find_copied(disk, image, dataset),
        values=() if disk is None else _list_values(disk),
        **_measure(scan, usable, spacing, dataset),  # type: ignore[arg-type]
    )
    return OpenedCase(signs=signs, scan=scan, mask=mask, spacing=spacing)


def measure_facts(dataset: Dataset, case: Case, image: Image, label: Label | None) -> CaseFacts:
    """The facts that plans are made from."""
    return measure_case(image, label, case=case, labels=dataset.labels, ignore_label=dataset.ignore_label)


def _read_disk(case: Case, problems: list[str]) -> np.ndarray | None:
    """(Z,Y,X) the first label file as it is; None if there is none, or it cannot be read."""
    try:
        return read_voxels(case.labels[0])[0] if case.labels else None
    except DataError as error:
        problems.append(f"case {case.id}: {error}")
        return None


def _foreground(dataset: Dataset) -> list[int]:
    return [value for value in dataset.labels.values() if value not in (0, dataset.ignore_label)]


def _list_values(disk: np.ndarray) -> tuple[float, ...]:
    values = np.unique(disk[disk != 0])[:MOST_VALUES]
    return tuple(float(value) for value in values)


def _find_copied(disk: np.ndarray | None, image: Image, dataset: Dataset) -> str:
    """The channel whose voxels the label file holds."""
    if disk is None or disk.shape != image.voxels.shape[1:]:
        return ""
    pairs = zip(dataset.channels, image.voxels, strict=True)
    return next((name for name, voxels in pairs if np.array_equal(voxels, disk.astype(np.float32))), "")


def _measure(
    scan: np.ndarray, mask: np.ndarray | None, spacing: tuple[float, ...], dataset: Dataset
) -> dict[str, object]:
    """The signs that voxels show.

    Args:
        scan: (C,Z,Y,X) float32.
        mask: (Z,Y,X) 0 and 1, or None.
        spacing: mm along (z,y,x).
    """
    head = _find_head(scan)
    inside = head.scan[:, head.mask]
    mean, std = inside.mean(axis=1), inside.std(axis=1)
    std[std == 0] = 1
    box = bounding_box(head.mask)
    coarse = [step * mm for step, mm in zip(head.steps, spacing, strict=True)]
    signs: dict[str, object] = {
        "repeated_channels": find_repeated_channels(scan, dataset.channels),
        "flat_channel": _find_flat(scan, dataset),
        "head_ml": six_digits(np.count_nonzero(head.mask) * math.prod(coarse) / 1000),
        "head_mm": tuple(six_digits((stop - start) * mm) for (start, stop), mm in zip(box, coarse, strict=True)),
        "levels": ((np.quantile(inside, LEVELS, axis=1) - mean) / std).T,
        "thumbnails": _draw_thumbnails(head, mean, std),
    }
    if mask is None or not mask.any():
        return signs
    places = np.argwhere(mask)
    chosen = places[:: math.ceil(len(places) / MOST_VOXELS)]
    tolerant = binary_dilation(head.mask, np.ones((3, 3, 3), bool))
    coarse_places = np.minimum(chosen // head.steps, np.array(tolerant.shape) - 1)
    return {
        **signs,
        "mask_hash": sha256(np.packbits(mask.astype(bool)).tobytes() + repr(mask.shape).encode())[:12],
        "outside_share": six_digits(1 - tolerant[tuple(coarse_places.T)].mean()),
        "cut_share": six_digits(_measure_cut(mask)),
        "contrasts": _measure_contrasts(scan, chosen, mean, std),
        "positions": _draw_positions(chosen / head.steps, box),
    }


def _find_head(scan: np.ndarray) -> _Head:
    """Bright voxels, without holes; the whole scan where nothing is."""
    steps = tuple(math.ceil(size / COARSE) for size in scan.shape[1:])
    coarse = np.ascontiguousarray(scan[(slice(None), *(slice(None, None, step) for step in steps))])
    mask = find_bright(coarse)
    filled = fill_voids.fill(mask) if min(mask.shape) > 1 else mask
    return _Head(scan=coarse, mask=filled.astype(bool) if filled.any() else np.ones_like(mask), steps=steps)


def _draw_thumbnails(head: _Head, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """(C,20,20,20) float32: the head's box at one size, 0 outside the head."""
    box = box_slices(bounding_box(head.mask))
    inside = head.mask[box]
    places = np.ix_(*((np.arange(THUMBNAIL) + 0.5) * size // THUMBNAIL for size in inside.shape))
    window = [max(1, round(size / THUMBNAIL)) for size in inside.shape]
    drawn = []
    for channel, middle, spread in zip(head.scan, mean, std, strict=True):
        levels = np.where(inside, np.clip((channel[box] - middle) / spread, -4, 4), 0)
        drawn.append(uniform_filter(levels, window)[tuple(place.astype(int) for place in places)])
    return np.stack(drawn).astype(np.float32)


def _draw_positions(places: np.ndarray, box: Box) -> np.ndarray:
    """(20,20,20) float32: share of the places in each part of the head's box, blurred.

    Args:
        places: (N,3) float, coarse voxels.
        box: of the head, in coarse voxels.
    """
    start, stop = np.array(box).T
    cells = np.clip((places - start) / (stop - start) * THUMBNAIL, 0, THUMBNAIL - 1).astype(int)
    shares = np.zeros((THUMBNAIL,) * 3, np.float32)
    np.add.at(shares, tuple(cells.T), 1 / len(cells))
    return uniform_filter(shares, 3)


def _find_flat(scan: np.ndarray, dataset: Dataset) -> str:
    """A channel with no more values than a mask has."""
    most = len(set(dataset.labels.values()) | {0}) + 1
    for name, channel in zip(dataset.channels, scan, strict=True):
        sample = channel[tuple(slice(None, None, math.ceil(size / COARSE)) for size in channel.shape)]
        if len(np.unique(sample)) <= most and len(np.unique(channel)) <= most:
            return name
    return ""


def _measure_cut(mask: np.ndarray) -> float:
    """Share that the first or last slice along an axis has of the largest slice along it."""
    shares = [0.0]
    for axis in range(3):
        areas = mask.astype(bool).sum(axis=tuple(a for a in range(3) if a != axis))
        if len(areas) > 2:
            shares.append(float(max(areas[0], areas[-1]) / areas.max()))
    return max(shares)


def _measure_contrasts(scan: np.ndarray, places: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """(8,C) mean intensity at places and at their mirror images, in standard deviations of the head."""
    last = np.array(scan.shape[1:]) - 1
    rows = []
    for flips in MIRRORS:
        mirrored = np.where(flips, last - places, places)
        rows.append((scan[(slice(None), *mirrored.T)].mean(axis=1) - mean) / std)
    return np.array(rows)
