"""Tiny datasets, each laid out exactly as it is distributed."""

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

SHAPE = (10, 20, 30)
TYPES = {"uint8": 2, "int16": 4, "float32": 16, "float64": 64, "uint16": 512}


@pytest.fixture
def write_nifti() -> Callable[..., Path]:
    """(path, (Z,Y,X) or (T,Z,Y,X), spacing x-y-z) -> a NIfTI-1 file, gzipped where the name says so."""

    def write(path: Path, voxels: np.ndarray, spacing=(1.0, 1.0, 1.0), *, intercept: float = 0, slope: float = 1):
        header = bytearray(352)
        sizes = voxels.shape[::-1]
        struct.pack_into("<i", header, 0, 348)
        struct.pack_into("<8h", header, 40, voxels.ndim, *sizes, *[1] * (7 - voxels.ndim))
        struct.pack_into("<2h", header, 70, TYPES[voxels.dtype.name], voxels.dtype.itemsize * 8)
        struct.pack_into("<8f", header, 76, 1, *spacing, *[1] * 4)
        struct.pack_into("<3f", header, 108, 352, slope, intercept)
        struct.pack_into("<2h", header, 252, 0, 1)
        for row in range(3):
            values = [0.0] * 4
            values[row] = spacing[row]
            struct.pack_into("<4f", header, 280 + 16 * row, *values)
        header[344:348] = b"n+1\0"
        content = bytes(header) + np.ascontiguousarray(voxels).tobytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content, 1) if path.name.lower().endswith(".gz") else content)
        return path

    return write


@pytest.fixture
def scan() -> Callable[..., np.ndarray]:
    """(seed, shape) -> (Z,Y,X) int16 noise, never constant."""
    return lambda seed=0, shape=SHAPE: np.random.default_rng(seed).integers(1, 1000, shape).astype(np.int16)


@pytest.fixture
def blob() -> Callable[..., np.ndarray]:
    """(value) -> (Z,Y,X) uint8 label with one box of 24 voxels."""

    def make(value: int = 1, shape=SHAPE) -> np.ndarray:
        voxels = np.zeros(shape, np.uint8)
        voxels[2:4, 5:8, 10:14] = value
        return voxels

    return make


@pytest.fixture
def make_nnunet(tmp_path, write_nifti, scan, blob) -> Callable[..., Path]:
    """nnU-Net v2's raw layout with two channels; keywords replace or add keys of ``dataset.json``."""

    def make(folder: Path | None = None, *, cases=("a", "b", "c"), ending=".nii.gz", **keys) -> Path:
        folder = folder or tmp_path / "raw" / "Dataset001_Brain"
        for seed, case in enumerate(cases):
            for channel in (0, 1):
                write_nifti(folder / "imagesTr" / f"{case}_{channel:04d}{ending}", scan(10 * seed + channel))
            write_nifti(folder / "labelsTr" / f"{case}{ending}", blob())
        content = {
            "channel_names": {"0": "FLAIR", "1": "T1"},
            "labels": {"background": 0, "lesion": 1},
            "numTraining": len(cases),
            "file_ending": ending,
            "overwrite_image_reader_writer": "SimpleITKIO",
        }
        kept = {key: value for key, value in {**content, **keys}.items() if value is not None}
        (folder / "dataset.json").write_text(json.dumps(kept))
        return folder

    return make


@pytest.fixture
def make_msd(tmp_path, write_nifti, scan, blob) -> Callable[..., Path]:
    """A Decathlon task: channels as a fourth axis, ``._*`` files beside, ``dataset.json`` with string keys."""

    def make(*, channels=("FLAIR", "T1w"), cases=("BRATS_001", "BRATS_002")) -> Path:
        folder = tmp_path / "Task01_BrainTumour"
        for seed, case in enumerate(cases):
            volumes = np.stack([scan(10 * seed + i) for i in range(len(channels))])
            write_nifti(folder / "imagesTr" / f"{case}.nii.gz", volumes if len(channels) > 1 else volumes[0])
            write_nifti(folder / "labelsTr" / f"{case}.nii.gz", blob(2))
            (folder / "imagesTr" / f"._{case}.nii.gz").write_bytes(b"\0\5\x16\7")
            (folder / "labelsTr" / f"._{case}.nii.gz").write_bytes(b"\0\5\x16\7")
        write_nifti(folder / "imagesTs" / "BRATS_900.nii.gz", scan(99))
        content = {
            "name": "BRATS",
            "licence": "CC-BY-SA 4.0",
            "modality": {str(i): name for i, name in enumerate(channels)},
            "labels": {"0": "background", "1": "edema", "2": "enhancing"},
            "numTraining": len(cases),
            "training": [
                {"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in cases
            ],
            "test": ["./imagesTs/BRATS_900.nii.gz"],
        }
        (folder / "dataset.json").write_text(json.dumps(content))
        return folder

    return make


@pytest.fixture
def make_siss(tmp_path, write_nifti, scan, blob) -> Callable[..., Path]:
    """ISLES 2015 SISS: an id of its own per file, one file with a trailing axis of length 1, a case without label."""

    def make(*, kinds=("MR_DWI", "MR_Flair", "MR_T1", "MR_T2"), cases=3, root="SISS2015_Training") -> Path:
        for number in range(1, cases + 1):
            for offset, kind in enumerate((*kinds, *(("OT",) if number < cases else ()))):
                name = f"VSD.Brain.XX.O.{kind}.{70000 + 7 * number + offset}"
                voxels = blob() if kind == "OT" else scan(10 * number + offset)
                trailing = number == 1 and kind == "MR_T1"
                path = tmp_path / "isles15" / root / str(number) / name / f"{name}.nii"
                write_nifti(path, voxels[None] if trailing else voxels)
            (tmp_path / "isles15" / root / str(number) / "license.txt").write_text("as it is\n")
        return tmp_path / "isles15"

    return make


@pytest.fixture
def make_isles22(tmp_path, write_nifti, scan, blob) -> Callable[..., Path]:
    """ISLES 2022, as in the BIDS download (``bids``) or the challenge's copy; FLAIR on a grid of its own."""

    def make(*, bids: bool = True, same_grid: bool = False) -> Path:
        folder = tmp_path / "isles22"
        for number in (1, 2):
            subject, session = f"sub-strokecase{number:04d}", "ses-0001"
            stem = f"{subject}_{session}"
            base = (folder if bids else folder / "rawdata") / subject / session
            dwi, anat = (base / "dwi", base / "anat") if bids else (base, base)
            flair = "FLAIR" if bids else "flair"
            write_nifti(dwi / f"{stem}_dwi.nii.gz", scan(number).astype(np.float64), (2, 2, 2))
            write_nifti(dwi / f"{stem}_adc.nii.gz", scan(number + 10).astype(np.float64), (2, 2, 2))
            (dwi / f"{stem}_dwi.json").write_text("{}")
            shape, spacing = (SHAPE, (2, 2, 2)) if same_grid else ((4, 40, 60), (1, 1, 5))
            write_nifti(anat / f"{stem}_{flair}.nii.gz", scan(number + 20, shape), spacing)
            mask = folder / "derivatives" / subject / session / f"{stem}_msk.nii.gz"
            write_nifti(mask, blob(), (2, 2, 2))
        return folder

    return make
