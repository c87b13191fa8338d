"""Masks as DICOM segmentation objects that reference their scan (written by highdicom), and such objects as labels.

Source: DICOM PS3.3 A.51 (Segmentation IOD), PS3.16 CID 7150 and 7151 (category and type of what is segmented).
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoseg.core.errors import DataError
from autoseg.core.records import Grid
from autoseg.core.store import replacing
from autoseg.dicom.attributes import MAX_FRAMES, read_series
from autoseg.dicom.files import Source, parse
from autoseg.dicom.volumes import Volume

if TYPE_CHECKING:
    from pydicom import Dataset

# A word of a label's name -> category and type, by their names in pydicom's table of SNOMED CT; the first that fits.
_TYPES = (
    (r"hippocamp\w*", "AnatomicalStructure", "Hippocampus"),
    (r"o?edema", "MorphologicallyAbnormalStructure", "Edema"),
    (r"necro\w*", "MorphologicallyAbnormalStructure", "Necrosis"),
    (r"ha?emorrh\w*|bleed\w*", "MorphologicallyAbnormalStructure", "Hemorrhage"),
    (r"\w*tumou?r\w*|glioma|metasta\w*|enhanc\w*|core|lgg|hgg", "MorphologicallyAbnormalStructure", "Neoplasm"),
    (r"cyst\w*", "MorphologicallyAbnormalStructure", "Cyst"),
    (r"\w*lesion\w*|wmh|plaque|ms|stroke|infarct\w*|isch\w*", "MorphologicallyAbnormalStructure", "Lesion"),
)
# Attributes that name the patient or people around; empty in a segmentation object unless asked for.
_PERSONAL = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName",
    "StudyID",
)  # fmt: skip
_OPTIONAL = (
    "OtherPatientIDs", "OtherPatientNames", "PatientAge", "PatientSize", "PatientWeight", "PatientBirthTime",
    "IssuerOfPatientID", "PatientComments", "AdditionalPatientHistory", "EthnicGroup", "Occupation",
    "InstitutionName", "StudyDescription", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "OperatorsName",
)  # fmt: skip
OFF_GRID = 0.02  # of a voxel, that a frame of a segmentation may lie beside the scan's voxels


def write_segmentation(
    path: Path, mask: np.ndarray, volume: Volume, labels: Mapping[str, int], *, model: str, keep_patient: bool
) -> None:
    """Write a mask as a DICOM segmentation object (binary segments), whole or not at all.

    Args:
        mask: (Z,Y,X) integer on ``volume.grid``.
        volume: the scan, whose images are referenced.
        labels: name -> value in the mask, from 1 without a gap.
        model: name of the model, for the description of the algorithm.
        keep_patient: copy the patient's name, number and birth date from the scan; otherwise they are empty.

    Raises:
        DataError: the scan lacks what a segmentation object must state.
        StorageError: the disk refused the write.
    """
    import highdicom
    from pydicom.uid import generate_uid

    import autoseg

    sources = list(dict.fromkeys(frame.source for frame in volume.frames))
    thickness = round(volume.grid.spacing[0], 6)
    images = [_prepare(parse(source, whole=True), keep_patient, thickness) for source in sources]
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(volume.grid.direction) * np.asarray(volume.grid.spacing)
    affine[:3, 3] = volume.grid.origin
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote values of the source
            array = highdicom.Volume(
                np.ascontiguousarray(mask).astype(np.uint8),
                affine,
                coordinate_system="PATIENT",
                frame_of_reference_uid=images[0].FrameOfReferenceUID,
            )
            segmentation = highdicom.seg.Segmentation(
                source_images=images,
                pixel_array=array,
                segmentation_type="BINARY",
                segment_descriptions=[_describe(name, value, model) for name, value in labels.items()],
                series_instance_uid=generate_uid(),
                series_number=_series_number(volume),
                sop_instance_uid=generate_uid(),
                instance_number=1,
                manufacturer="autoseg",
                manufacturer_model_name=model[:64],
                software_versions=autoseg.__version__,
                device_serial_number="none",
                content_label="AUTOSEG",
                content_description=f"Automatic segmentation by {model}"[:64],
                series_description=f"autoseg {model}"[:64],
            )
    except (AttributeError, KeyError, ValueError, TypeError, OverflowError) as error:
        lacks = f" ({str(error)[:80]})" if isinstance(error, AttributeError) else ""
        raise DataError(
            f"{volume.title} cannot be referenced by a segmentation object{lacks}; predict without --dicom-seg"
        ) from error
    with replacing(path) as temporary:
        segmentation.save_as(temporary)


def _prepare(image: Dataset, keep_patient: bool, thickness: float) -> Dataset:
    """The attributes of a scan that its segmentation takes over; missing ones that must be there are empty."""
    if "SliceThickness" not in image or image.SliceThickness is None:
        image.SliceThickness = thickness
    for key in _PERSONAL:
        if key not in image or not keep_patient:
            setattr(image, key, "")
    for key in _OPTIONAL:
        if key in image and not keep_patient:
            delattr(image, key)
    for key in ("StudyDate", "StudyTime", "PositionReferenceIndicator", "Manufacturer"):
        if key not in image:
            setattr(image, key, "")
    return image


def _series_number(volume: Volume) -> int:
    number = volume.series.number or 0
    return 1000 + number if 0 <= number < 2**30 else 1000


def _describe(name: str, value: int, model: str) -> Any:
    """Description of one segment: its label, the code of what it is, the brain as its place, and the algorithm."""
    import highdicom
    from pydicom.sr.codedict import codes

    import autoseg

    category, kind = code_label(name)
    return highdicom.seg.SegmentDescription(
        segment_number=value,
        segment_label=name[:64],
        segmented_property_category=getattr(codes.SCT, category),
        segmented_property_type=getattr(codes.SCT, kind),
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=f"autoseg {model}"[:64],
            family=codes.cid7162.ArtificialIntelligence,
            version=autoseg.__version__,
        ),
        anatomic_regions=[codes.SCT.Brain],
    )


def code_label(name: str) -> tuple[str, str]:
    """Category and type of a label in SNOMED CT; tissue where its name states no more."""
    words = re.findall(r"[a-z]+", name.lower())
    for pattern, category, kind in _TYPES:
        if any(re.fullmatch(pattern, word) for word in words):
            return category, kind
    return "Tissue", "Tissue"


def read_segmentation(source: Source, grid: Grid) -> tuple[np.ndarray, dict[int, str]]:
    """A DICOM segmentation object on the grid of a scan, voxel for voxel; nothing is resampled.

    Args:
        source: the file; binary, fractional (more than a half counts) or a label map.
        grid: of the scan.

    Returns:
        (Z,Y,X) uint8, the segment's number (the larger one where two overlap); and number -> label of every segment.

    Raises:
        DataError: damaged, or its frames do not lie on the voxels of the grid.
    """
    dataset = parse(source, pixels=True, whole=True)
    mask = np.zeros(grid.shape, np.uint8)
    try:
        labels = {int(item.SegmentNumber): str(item.SegmentLabel) for item in dataset.SegmentSequence}
        is_map = str(dataset.get("SegmentationType")) == "LABELMAP"
        pixels = _read_frames(source, dataset)
        shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or ()), None)
        frames = list(dataset.PerFrameFunctionalGroupsSequence)
        if len(frames) != len(pixels) or not labels or not 0 < min(labels) <= max(labels) < 256:
            raise DataError(
                f"{source.name} states {len(frames)} frames and segments {sorted(labels)[:5]}; it is damaged"
            )
        for group, image in zip(frames, pixels, strict=True):
            if not image.any():
                continue
            levels = [level for level in (group, shared) if level is not None]
            index = _place_frame(source, grid, levels, image.shape)
            number = 0 if is_map else int(_read_macro(levels, "SegmentIdentificationSequence").ReferencedSegmentNumber)
            values = image if is_map else (image > 0) * np.uint8(number)
            rows, columns = np.nonzero(values)
            at = tuple(index[axis][rows, columns] for axis in range(3))
            mask[at] = np.maximum(mask[at], values[rows, columns])
    except (AttributeError, KeyError, IndexError, ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{source.name} is not a segmentation that can be read; export it again") from error
    return mask, {number: name for number, name in labels.items() if number or not is_map}


def referenced_series(source: Source) -> set[str]:
    """UIDs of the series that a segmentation states it was drawn on."""
    dataset = parse(source, whole=True)
    items = itertools.chain([dataset], dataset.get("ReferencedSeriesSequence") or ())
    return {str(item.get("SeriesInstanceUID") or "") for item in items} - {read_series(dataset).uid, ""}


def place_mask(mask: np.ndarray, mask_grid: Grid, grid: Grid) -> np.ndarray | None:
    """A mask brought onto another grid with the same voxels in another order of axes; nothing is resampled.

    Args:
        mask: (Z,Y,X) on ``mask_grid``.

    Returns:
        (Z,Y,X) on ``grid``, 0 where the mask does not reach; None where voxels do not coincide or a marked one lies
        outside.
    """
    inverse = np.linalg.inv(np.asarray(grid.direction) * np.asarray(grid.spacing))
    corners = np.array([[0, 0, 0], *(np.diag(np.array(mask.shape) - 1).tolist())])
    placed = (mask_grid.to_world(corners) - np.asarray(grid.origin)) @ inverse.T
    steps = inverse @ (np.asarray(mask_grid.direction) * np.asarray(mask_grid.spacing))
    whole = np.rint(steps)
    if np.abs(placed - np.rint(placed)).max() > OFF_GRID or not np.array_equal(np.abs(whole) @ np.ones(3), np.ones(3)):
        return None
    index = np.argwhere(mask)
    target = np.rint(placed[0]).astype(int) + index @ whole.astype(int).T
    if ((target < 0) | (target >= np.array(grid.shape))).any():
        return None
    result = np.zeros(grid.shape, mask.dtype)
    result[tuple(target.T)] = mask[tuple(index.T)]
    return result


def _read_frames(source: Source, dataset: Dataset) -> np.ndarray:
    """(N,Y,X) uint8 frames."""
    from pydicom.pixels import pixel_array

    count, rows, columns = int(dataset.get("NumberOfFrames") or 1), int(dataset.Rows), int(dataset.Columns)
    if not (0 < count <= MAX_FRAMES and rows > 0 and columns > 0 and count * rows * columns <= 2**32):
        raise DataError(f"{source.name} states {count} frames of {rows}x{columns} pixels, which cannot be read")
    bits, length = int(dataset.BitsAllocated), len(dataset.PixelData)
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    if syntax not in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5") or bits not in (1, 8, 16):
        raise DataError(f"{source.name} is compressed in a way that is not read; write it without compression")
    if syntax != "1.2.840.10008.1.2.5" and length < -(-count * rows * columns * bits // 8):
        raise DataError(f"{source.name} is truncated; copy it again")
    try:
        pixels = pixel_array(dataset, raw=True).reshape(count, rows, columns)
    except Exception as error:  # whatever a decoder raises on damaged data
        raise DataError(f"{source.name} has damaged pixels; copy it again") from error
    if str(dataset.get("SegmentationType")) == "FRACTIONAL":
        return (pixels * 2.0 > float(dataset.MaximumFractionalValue)).astype(np.uint8)
    return pixels.astype(np.uint8)


def _read_macro(levels: Sequence[Dataset], macro: str) -> Dataset:
    """A functional group of a frame, its own or the one that all frames share."""
    found = next((level[macro].value[0] for level in levels if macro in level), None)
    if found is None:
        raise KeyError(macro)
    return found


def _place_frame(source: Source, grid: Grid, levels: Sequence[Dataset], shape: tuple[int, int]) -> np.ndarray:
    """(3,Y,X) index on the grid of every pixel of a frame."""

    def read(macro: str, key: str) -> np.ndarray:
        return np.array([float(value) for value in _read_macro(levels, macro)[key].value])

    position = read("PlanePositionSequence", "ImagePositionPatient")
    axes = read("PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = read("PixelMeasuresSequence", "PixelSpacing")
    corners = np.array([position, position + axes[3:] * spacing[0], position + axes[:3] * spacing[1]])
    inverse = np.linalg.inv(np.asarray(grid.direction) * np.asarray(grid.spacing))
    placed = (corners - np.asarray(grid.origin)) @ inverse.T
    first, down, right = placed[0], placed[1] - placed[0], placed[2] - placed[0]
    steps = np.rint(np.stack([down, right]))
    reach = np.array(shape)[:, None]
    off = np.abs(np.stack([down, right]) - steps) * reach
    if np.abs(first - np.rint(first)).max() > OFF_GRID or off.max() > OFF_GRID or not (np.abs(steps).sum(1) == 1).all():
        raise DataError(f"{source.name} does not lie on the voxels of the scan; draw it on the scan itself")
    rows, columns = np.indices(shape)
    start = np.rint(first)
    index = np.stack([start[a] + steps[0, a] * rows + steps[1, a] * columns for a in range(3)]).astype(int)
    ends = index[:, [0, -1], :][:, :, [0, -1]].reshape(3, -1)
    if (ends < 0).any() or (ends >= np.array(grid.shape)[:, None]).any():
        raise DataError(f"{source.name} reaches beyond the scan; draw it on the scan itself")
    return index
