"""Scans to predict that are DICOM: converted beside the masks, and masks as DICOM segmentation objects."""

from __future__ import annotations

from pathlib import Path

from autoseg.core.errors import CasesError, UsageError
from autoseg.core.parallel import Progress
from autoseg.core.records import Label
from autoseg.core.registry import unknown_name
from autoseg.core.store import check_writable
from autoseg.datasets.bids_scans import is_bids
from autoseg.dicom import Converted, Volume, convert_studies, holds_dicom, write_segmentation
from autoseg.options import PredictOptions
from autoseg.prediction.ensembles import Ensemble, load_ensemble_plan
from autoseg.prediction.records import CaseFiles

SCANS = "scans"  # in the folder of the masks


def convert_scans(folder: Path, options: PredictOptions, *, progress: Progress) -> Converted | None:
    """Convert a folder or zip of DICOM to NIfTI beside the masks; None where the scans are not DICOM.

    Args:
        folder: of the model.

    Raises:
        UsageError: an option of DICOM was given for other scans, or names a channel that the model lacks.
        CasesError: no study can be used.
    """
    if is_bids(options.scans) or not holds_dicom(options.scans, without=options.output):  # BIDS may keep its DICOM
        if options.channel or options.dicom_seg or options.dicom_patient:
            raise UsageError(
                f"{options.scans} holds no DICOM; --channel, --dicom-seg and --dicom-patient are for DICOM"
            )
        return None
    channels = load_ensemble_plan(folder).channels
    patterns = dict(pair.split("=", 1) for pair in options.channel)
    unknown = [name for name in patterns if name not in channels]
    if unknown:
        raise UsageError(unknown_name("channel", unknown[0], channels, of=f"the model {folder.name}"))
    check_writable(options.output)
    converted = convert_studies(options.scans, options.output / SCANS, channels, patterns, progress=progress)
    if not converted.cases:
        raise CasesError(converted.failures, of=len(converted.failures), doing="reading DICOM")
    return converted


def write_dicom_mask(
    files: CaseFiles, mask: Label, reference: Volume, ensemble: Ensemble, *, keep_patient: bool
) -> None:
    """Write a mask as a DICOM segmentation object that references its scan.

    Args:
        mask: (Z,Y,X) on the grid of the scan.
        reference: the scan of the first channel.
        keep_patient: copy the patient's name, number and birth date.
    """
    plan = ensemble.plan
    labels = {name: value for name, value in plan.labels.items() if value not in (0, plan.ignore_label)}
    voxels, path = mask.voxels, files.segmentation
    write_segmentation(path, voxels, reference, labels, model=ensemble.name, keep_patient=keep_patient)
