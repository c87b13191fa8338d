"""DICOM: studies of a folder or a zip -> volumes on regular grids, matched to channels; masks -> DICOM-SEG and back."""

from autoseg.dicom.converting import Converted, convert_studies, write_study
from autoseg.dicom.files import check_packages, holds_dicom
from autoseg.dicom.segmentation import place_mask, read_segmentation, write_segmentation
from autoseg.dicom.sequences import choose_volumes, frequent_kinds
from autoseg.dicom.studies import Study, find_studies
from autoseg.dicom.volumes import Volume

__all__ = [
    "Converted",
    "Study",
    "Volume",
    "check_packages",
    "choose_volumes",
    "convert_studies",
    "find_studies",
    "frequent_kinds",
    "holds_dicom",
    "place_mask",
    "read_segmentation",
    "write_segmentation",
    "write_study",
]
