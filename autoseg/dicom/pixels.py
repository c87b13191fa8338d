"""Pixels of frames -> voxels in scanner units.

Uncompressed and run-length data are decoded by pydicom, in Python. All other compressions are decoded by ITK in the
process that reads images (``core/image_reader``), from a file that holds nothing but the compressed frames: no name
and no header of the source reaches C code, and a crash costs one case.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autoseg.core.errors import DataError
from autoseg.core.image_files import MAX_BYTES
from autoseg.core.image_reader import READER
from autoseg.dicom.attributes import Frame
from autoseg.dicom.files import Source, parse
from autoseg.dicom.volumes import Volume

if TYPE_CHECKING:
    from pydicom import Dataset

PYTHON = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5")
NATIVE = PYTHON[:3]
_LAYOUT = (
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation",
)  # fmt: skip


def read_volume(volume: Volume) -> np.ndarray:
    """(Z,Y,X) voxels of a volume in scanner units: integers as stored, or float32 where the file scales them.

    Raises:
        DataError: pixels are missing, damaged, or not as many as the header states.
    """
    slices: dict[Frame, np.ndarray] = {}
    by_file = sorted(volume.frames, key=lambda frame: (frame.source.name, frame.index))
    for source, group in itertools.groupby(by_file, key=lambda frame: frame.source):
        frames = list(group)
        for frame, pixels in zip(frames, _read_frames(source, [f.index for f in frames]), strict=True):
            if pixels.shape != (frame.rows, frame.columns):
                raise DataError(f"{source.name} has {pixels.shape} pixels instead of {(frame.rows, frame.columns)}")
            slices[frame] = pixels
    stored = np.stack([slices[frame] for frame in volume.frames])
    scales = np.array([(frame.slope, frame.intercept) for frame in volume.frames])
    if (scales == (1, 0)).all():
        return stored.astype(np.int16) if stored.dtype.itemsize == 1 else stored
    scaled = stored * scales[:, 0, None, None] + scales[:, 1, None, None]
    if not np.isfinite(scaled).all() or np.abs(scaled).max() > np.finfo(np.float32).max:
        raise DataError(f"{volume.frames[0].source.name} scales its values beyond any number; convert it again")
    return scaled.astype(np.float32)


def _read_frames(source: Source, indices: Sequence[int]) -> list[np.ndarray]:
    """(Y,X) stored values of some frames of a file."""
    dataset = parse(source, pixels=True)
    try:
        count, bits = int(dataset.get("NumberOfFrames") or 1), int(dataset.BitsAllocated)
        size = dataset.Rows * dataset.Columns * count * bits // 8
        length = len(dataset.get("PixelData") or b"")
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{source.name} does not state the layout of its pixels; convert it again") from error
    syntax = str(getattr(dataset.file_meta, "TransferSyntaxUID", ""))
    if bits not in (8, 16, 32) or dataset.get("PixelRepresentation") not in (0, 1) or size > MAX_BYTES:
        raise DataError(f"{source.name} states {bits} bits a pixel and {size >> 20} MB in all, which cannot be read")
    if length == 0 or (syntax in NATIVE and length < size):
        raise DataError(f"{source.name} is truncated: its header states {size} bytes of pixels, and it has {length}")
    if syntax not in PYTHON:
        return _decode_elsewhere(source, dataset, indices, size)
    from pydicom.pixels import pixel_array

    try:
        return [np.ascontiguousarray(pixel_array(dataset, index=index, raw=True)) for index in indices]
    except Exception as error:  # whatever a decoder raises on damaged data
        raise DataError(f"{source.name} has damaged pixels; copy it again") from error


def _decode_elsewhere(source: Source, dataset: Dataset, indices: Sequence[int], size: int) -> list[np.ndarray]:
    from pydicom import Dataset as Empty
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import MRImageStorage, generate_uid

    bare = Empty()
    for key in _LAYOUT:
        if key in dataset:
            bare[key] = dataset[key]
    bare.SOPClassUID, bare.SOPInstanceUID = MRImageStorage, generate_uid()
    bare.NumberOfFrames = int(dataset.get("NumberOfFrames") or 1)
    bare["PixelData"] = dataset["PixelData"]
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    bare.file_meta.MediaStorageSOPClassUID, bare.file_meta.MediaStorageSOPInstanceUID = MRImageStorage, generate_uid()
    with tempfile.TemporaryDirectory(prefix="autoseg_") as folder:
        path = Path(folder) / "frames.dcm"
        try:
            bare.save_as(path, enforce_file_format=True)
        except Exception as error:  # as pydicom raises on what it cannot write
            raise DataError(f"{source.name} has damaged pixels; copy it again") from error
        try:
            _, voxels = READER.read(path, size, voxels=True)
        except DataError as error:
            raise DataError(f"{source.name} has pixels that cannot be decoded; decompress or copy it again") from error
    assert voxels is not None
    if voxels.size * int(bare.BitsAllocated) // 8 != size:
        raise DataError(f"{source.name} holds other pixels than its header states; copy it again")
    frames = voxels.reshape(-1, int(bare.Rows), int(bare.Columns))
    return [np.ascontiguousarray(frames[index]) for index in indices]
