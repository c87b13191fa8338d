"""One reader for every layout: a case's files -> checked voxels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autoseg.core.errors import DataError
from autoseg.core.images import count_volumes, read_volumes, read_voxels, resample_voxels, stated_unit
from autoseg.core.nifti import Form
from autoseg.core.records import Case, ChannelFile, Dataset, Grid, Image, Label
from autoseg.core.text import join_names

ROUNDING = 1e-3  # a mask that went through a header's slope reads 0.99999997
SMALLEST_MM, LARGEST_MM = 2.0, 1000.0  # of the longest side of a scan; a mouse's head is 10 mm wide
WHITE = 255  # the highest value of one byte, which many programs write for 1


def read_case(dataset: Dataset, case: Case) -> tuple[Image, Label | None]:
    """One case's scan and reference, on the scan's own grid.

    Returns:
        The image (C,Z,Y,X) float32 in scanner units, and the label (Z,Y,X) int16 with the values of
        ``dataset.labels`` (all 0 where there is no lesion), or None without a label file.

    Raises:
        DataError: a file is missing, damaged, constant or on another grid, or a label holds unknown values;
            the message names the case and the file.
    """
    image = read_image(
        case.id, case.channels, dataset.channels, resample_channels=dataset.resample_channels, spacing=case.spacing
    )
    if not case.labels:
        return image, None
    return image, place_label(case, read_label(dataset, case), image)


def place_label(case: Case, label: Label, image: Image) -> Label:
    """The label on the very grid of its image.

    Raises:
        DataError: it is on another one.
    """
    if not label.grid.matches(image.grid):
        raise DataError(
            f"case {case.id}: the label is not on the image's grid: {case.labels[0]} has "
            f"{label.grid.describe()}; {case.channels[0].path} has {image.grid.describe()} "
            f"({label.grid.describe_difference(image.grid)}); resample the label onto the image's grid"
        )
    return Label(voxels=label.voxels, grid=image.grid)


def read_image(
    case_id: str,
    files: Sequence[ChannelFile],
    channels: Sequence[str],
    *,
    resample_channels: bool = False,
    spacing: tuple[float, float, float] | None = None,
    orientation: Form | None = None,
) -> Image:
    """All channels of one scan on the first channel's grid.

    Args:
        case_id: for messages.
        files: one per channel.
        channels: their names.
        resample_channels: bring channels on other grids onto the first channel's, linearly; else they are an error.
        spacing: mm along (z,y,x) for files that state none.
        orientation: the form to follow in NIfTI files whose two forms disagree; None refuses them.

    Returns:
        (C,Z,Y,X) float32, scanner units.

    Raises:
        DataError: as ``read_case``.
    """
    if len(files) != len(channels):
        raise DataError(f"case {case_id} has {len(files)} channels; expected {len(channels)}: {join_names(channels)}")
    volumes: dict[Path, tuple[np.ndarray, Grid]] = {}  # of files that hold several channels, each read once
    first, target = _read_channel(case_id, files[0], files, orientation, volumes)
    image = np.empty((len(files), *target.shape), np.float32)
    for index, (file, name) in enumerate(zip(files, channels, strict=True)):
        voxels, grid = (first, target) if index == 0 else _read_channel(case_id, file, files, orientation, volumes)
        if not grid.matches(target):
            if not resample_channels:
                raise DataError(
                    f"case {case_id}: channel {name} is not on the grid of channel {channels[0]}: {file.path} has "
                    f"{grid.describe()}; {files[0].path} has {target.describe()} ({grid.describe_difference(target)}); "
                    f"use --resample-channels with autoseg_import or autoseg_predict"
                )
            voxels = resample_voxels(voxels, grid, target)
        if voxels.min() == voxels.max():
            raise DataError(
                f"case {case_id}: all voxels of channel {name} are equal ({voxels.flat[0]:g}) in {file.path}"
                f"{'' if grid.matches(target) else ' where it covers the first channel'}; "
                f"replace the file or leave the case out"
            )
        image[index] = voxels
    return Image(voxels=image, grid=_with_spacing(target, spacing))


def check_extent(case_id: str, path: Path, grid: Grid) -> None:
    """Refuse a scan of a size that no head has, because its header states a wrong spacing or unit.

    Raises:
        DataError: its longest side is below 2 mm or above 1000 mm.
    """
    sides = [n * mm for n, mm in zip(grid.shape, grid.spacing, strict=True)]
    if not SMALLEST_MM <= max(sides) <= LARGEST_MM:
        unit = stated_unit(path)
        size, spacing = (" x ".join(f"{mm:.4g}" for mm in lengths) for lengths in (sides, grid.spacing))
        raise DataError(
            f"case {case_id}: {path} has a size of {size} mm (z,y,x), which no head has: its header states a spacing "
            f"of {spacing} mm{f' (in {unit}s)' if unit else ''}; correct it, or use it as it is with --accept-spacing"
        )


def find_repeated_channels(voxels: np.ndarray, channels: Sequence[str]) -> tuple[str, ...]:
    """Channels that hold the voxels of one before, as clauses: some datasets fill a sequence that was not scanned with
    another.

    Args:
        voxels: (C,Z,Y,X).
    """
    repeats = []
    for later in range(1, len(channels)):
        first = next((n for n in range(later) if np.array_equal(voxels[n], voxels[later])), None)
        if first is not None:
            repeats.append(f"{channels[first]} and {channels[later]}")
    return tuple(repeats)


def _with_spacing(grid: Grid, spacing: tuple[float, float, float] | None) -> Grid:
    return grid if spacing is None else grid.model_copy(update={"spacing": spacing})


def _read_channel(
    case_id: str,
    file: ChannelFile,
    files: Sequence[ChannelFile],
    orientation: Form | None,
    volumes: dict[Path, tuple[np.ndarray, Grid]],
) -> tuple[np.ndarray, Grid]:
    try:
        if file.volume is None:
            return read_voxels(file.path, orientation=orientation)
        if file.path not in volumes:
            count, expected = count_volumes(file.path), sum(sibling.path == file.path for sibling in files)
            if count != expected:
                raise DataError(f"{file.path} has {count} volumes along its fourth axis; expected {expected} channels")
            volumes[file.path] = read_volumes(file.path, orientation=orientation)
        voxels, grid = volumes[file.path]
        return voxels[file.volume], grid
    except DataError as error:
        raise DataError(f"case {case_id}: {error}") from error


def read_label(dataset: Dataset, case: Case) -> Label:
    """One case's reference alone: all its label files united; where two disagree, the larger value stays.

    Returns:
        (Z,Y,X) int16 with the values of ``dataset.labels`` on the first label file's grid.

    Raises:
        DataError: as ``read_case``; also a case without label file.
    """
    if not case.labels:
        raise DataError(f"case {case.id} has no label; add it, or leave the case out")
    union: Label | None = None
    for path in case.labels:
        try:
            voxels, grid = read_voxels(path)
        except DataError as error:
            raise DataError(f"case {case.id}: {error}") from error
        classes = _read_classes(dataset, case, path, voxels)
        if union is None:
            union = Label(voxels=classes, grid=grid)
        elif grid.matches(union.grid):
            np.maximum(union.voxels, classes, out=union.voxels)
        else:
            raise DataError(
                f"case {case.id}: its label files are on different grids: {path} has {grid.describe()}; "
                f"{case.labels[0]} has {union.grid.describe()} ({grid.describe_difference(union.grid)}); resample "
                f"them onto the image's grid"
            )
    assert union is not None
    return Label(voxels=union.voxels, grid=_with_spacing(union.grid, case.spacing))


def _read_classes(dataset: Dataset, case: Case, path: Path, voxels: np.ndarray) -> np.ndarray:
    """Voxels as on disk -> int16 values of ``dataset.labels``."""
    if dataset.mask_threshold is not None:
        return _read_mask(case, path, voxels, dataset.mask_threshold)
    rounded = voxels
    if voxels.dtype.kind == "f":
        rounded = np.rint(voxels)
        fractions = np.unique(voxels[np.abs(voxels - rounded) > ROUNDING])
        if fractions.size:
            raise DataError(
                f"case {case.id}: label {path} holds fractional values "
                f"({join_names((f'{value:g}' for value in fractions), limit=5)}); "
                f"it is not a label, or was resampled linearly"
            )
    classes_of = dataset.label_values or {value: value for value in _values(dataset)}
    present = np.unique(rounded[rounded != 0])
    if classes_of.keys() == {0, 1} and present.tolist() == [WHITE]:  # an image editor's mask: black and white
        classes_of = {WHITE: classes_of[1]}
    unknown = [f"{value:g}" for value in present if value not in classes_of]
    if unknown:
        names = ", ".join(f"{value} {name}" for name, value in dataset.labels.items())
        ignored = f", {dataset.ignore_label} ignore" if dataset.ignore_label is not None else ""
        known_values = f"{join_names(sorted(classes_of))} on disk" if dataset.label_values else names + ignored
        raise DataError(
            f"case {case.id}: label {path} holds the unexpected values {join_names(unknown)}; expected {known_values}"
        )
    classes = np.zeros(voxels.shape, np.int16)
    for value in present:
        classes[rounded == value] = classes_of[int(value)]
    return classes


def _read_mask(case: Case, path: Path, voxels: np.ndarray, threshold: float) -> np.ndarray:
    """A mask of any kind, hard or soft -> int16 0 and 1."""
    low, high = float(voxels.min()), float(voxels.max())
    scale = WHITE if high > 1 + ROUNDING else 1
    if low < -ROUNDING or (scale == WHITE and abs(high - WHITE) > ROUNDING * WHITE):
        raise DataError(
            f"case {case.id}: label {path} holds values from {low:g} to {high:g}; a mask holds 0 to 1, or 0 to 255"
        )
    return (voxels > threshold * scale).astype(np.int16)


def _values(dataset: Dataset) -> set[int]:
    ignore = set() if dataset.ignore_label is None else {dataset.ignore_label}
    return set(dataset.labels.values()) | ignore
