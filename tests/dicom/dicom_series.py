"""DICOM made for tests: classic and enhanced MR series on any grid, written by pydicom."""

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from autoseg.core.records import Grid

NAME, NUMBER, BIRTH = "Quixote^Dulcinea", "MRN-778899", "19470523"
GRID = Grid(shape=(6, 8, 10), spacing=(3.0, 1.5, 1.25), origin=(-40.0, 12.5, 7.25))
STUDY, PLACE = "1.2.826.0.1.3680043.10.511.1", "1.2.826.0.1.3680043.10.511.2"


def header(kind, *, description="AX FLAIR", number=4, study=STUDY, uid=None, **values):
    """Attributes that every image of a series has; ``values`` replace them, and None removes one."""
    dataset = Dataset()
    dataset.SOPClassUID = kind
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex = NAME, NUMBER, BIRTH, "F"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, uid or generate_uid(entropy_srcs=[study, str(number)])
    dataset.FrameOfReferenceUID = PLACE
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber, dataset.StudyID = "20240102", "101500", "A1", "7"
    dataset.ReferringPhysicianName, dataset.PositionReferenceIndicator = "House^Gregory", ""
    dataset.Modality, dataset.Manufacturer, dataset.SeriesDescription = "MR", "Maker", description
    dataset.SeriesNumber, dataset.ImageType = number, ["ORIGINAL", "PRIMARY", "M", "ND"]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    for key, value in values.items():
        if value is None:
            delattr(dataset, key)
        else:
            setattr(dataset, key, value)
    return dataset


def save(dataset, path):
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def axes(grid):
    """(6,) the direction along a row and along a column."""
    direction = np.asarray(grid.direction)
    return [*direction[:, 2].tolist(), *direction[:, 1].tolist()]


def write_series(folder, voxels=None, grid=GRID, *, change=None, reverse=False, start=0, **values):
    """A classic series: one file per slice.

    Args:
        voxels: (Z,Y,X) uint16.
        change: called with (index, dataset) of each slice before it is written; returning False leaves it out.
        reverse: number instances against the order of slices.
    """
    voxels = np.arange(np.prod(grid.shape), dtype=np.uint16).reshape(grid.shape) if voxels is None else voxels
    files = []
    for index, image in enumerate(voxels):
        dataset = header(MRImageStorage, **values)
        number = len(voxels) - index if reverse else index + 1
        dataset.InstanceNumber = number
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[dataset.SeriesInstanceUID, str(start + index)])
        dataset.Rows, dataset.Columns = image.shape
        dataset.PixelSpacing = [grid.spacing[1], grid.spacing[2]]
        dataset.ImageOrientationPatient = axes(grid)
        dataset.ImagePositionPatient = grid.to_world(np.array([index, 0, 0])).tolist()
        dataset.PixelData = image.astype("<u2").tobytes()
        if change is None or change(index, dataset) is not False:
            files.append(save(dataset, folder / f"IM{start + number:04d}"))
    return files


def write_enhanced(path, volumes, grid=GRID, *, facts=({},), change=None, **values):
    """An enhanced multi-frame object that holds volumes, slice by slice.

    Args:
        volumes: (Z,Y,X) uint16 each.
        facts: of each volume: ``b`` or ``slope``.
    """
    dataset = header(EnhancedMRImageStorage, **values)
    dataset.SOPInstanceUID, dataset.InstanceNumber = generate_uid(entropy_srcs=[dataset.SeriesInstanceUID]), 1
    dataset.Rows, dataset.Columns = grid.shape[1:]
    shared = Dataset()
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = axes(grid)
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = [grid.spacing[1], grid.spacing[2]]
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups, frames = [], []
    for index in range(grid.shape[0]):
        for voxels, stated in zip(volumes, facts, strict=True):
            group = Dataset()
            group.PlanePositionSequence = [Dataset()]
            group.PlanePositionSequence[0].ImagePositionPatient = grid.to_world(np.array([index, 0, 0])).tolist()
            if "b" in stated:
                group.MRDiffusionSequence = [Dataset()]
                group.MRDiffusionSequence[0].DiffusionBValue = float(stated["b"])
            group.PixelValueTransformationSequence = [Dataset()]
            group.PixelValueTransformationSequence[0].RescaleSlope = stated.get("slope", 1)
            group.PixelValueTransformationSequence[0].RescaleIntercept = stated.get("intercept", 0)
            groups.append(group)
            frames.append(voxels[index])
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = np.stack(frames).astype("<u2").tobytes()
    if change is not None:
        change(dataset)
    return save(dataset, path)
