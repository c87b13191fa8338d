"""Files of each predicted case, and the record of what made its mask, so that several commands can share a folder."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from autoseg.core.errors import PlanError, StorageError
from autoseg.core.images import file_ending, strip_ending
from autoseg.core.records import Case, CaseDoubt, CaseLesions, Plan, PostProcessing, Record
from autoseg.core.store import explain_write_error, hash_settings, read_record, sha256, write_record
from autoseg.model import WEIGHTS, Model, fold_folder
from autoseg.prediction.derivatives import name_mask, name_probabilities, place_derivative
from autoseg.prediction.ensembles import BEST_RECORD, Ensemble

RECORDS = "predictions"
OVERLAYS = "overlays"
ENDINGS: dict[type[Record], str] = {CaseLesions: ".lesions.json", CaseDoubt: ".doubt.json"}  # after a mask's name
R = TypeVar("R", CaseLesions, CaseDoubt)


class MaskRecord(Record):
    """Origin of a mask, so that the same command resumes.

    Attributes:
        model: key of the model's weights and plan, and of tiles and mirroring.
        name: of the model, for people.
        scan: key of the scan's files.
        postprocessing: label or region -> its post-processing, for people; ``model`` depends on it, too.
        complete: False while the mask is being made; version 0.1 wrote only complete records.
        mask: SHA-256 of the mask as it was written; empty in records of version 0.1.
    """

    model: str
    name: str
    scan: str
    postprocessing: dict[str, PostProcessing] = Field(default_factory=dict)
    complete: bool = True
    mask: str = ""


@dataclass(frozen=True, kw_only=True)
class CaseFiles:
    """Paths of a case's mask, its DICOM object, probabilities (of derivatives one per label), lesions and others."""

    mask: Path
    segmentation: Path
    probabilities: tuple[Path, ...]
    record: Path
    lesions: Path
    overlay: Path
    review: Path

    @classmethod
    def of(cls, output: Path, case: Case) -> CaseFiles:
        """In an output folder; the mask gets the scan's own file ending."""
        ending = file_ending(case.channels[0].path) or ".nii.gz"
        ending = {".nii": ".nii.gz", ".mhd": ".mha"}.get(ending, ending)  # one file each
        return cls.of_mask(output / f"{case.id}{ending}")

    @classmethod
    def of_derivative(cls, output: Path, case: Case, plan: Plan) -> CaseFiles:
        """In a folder of BIDS derivatives."""
        scan = case.channels[0].path
        files = cls.of_mask(place_derivative(output, scan, name_mask(plan)), output)
        suffixes = name_probabilities(plan).values()
        return replace(files, probabilities=tuple(place_derivative(output, scan, suffix) for suffix in suffixes))

    @classmethod
    def of_mask(cls, mask: Path, output: Path | None = None) -> CaseFiles:
        """Beside a mask, or in the folder of all masks."""
        output, name = output or mask.parent, strip_ending(mask)
        return cls(
            mask=mask,
            segmentation=output / f"{name}.dcm",
            probabilities=(output / f"{name}.npz",),
            record=output / RECORDS / f"{mask.name}.json",
            lesions=output / RECORDS / f"{mask.name}{ENDINGS[CaseLesions]}",
            overlay=output / OVERLAYS / f"{name}.png",
            review=output / RECORDS / f"{mask.name}{ENDINGS[CaseDoubt]}",
        )

    def read_record(self) -> MaskRecord | None:
        """The mask's record; None if it is missing or unreadable."""
        try:
            return read_record(MaskRecord, self.record, advice="")
        except PlanError:
            return None

    def are_complete(
        self, record: MaskRecord, *, probabilities: bool, report: bool, review: bool, segmentation: bool = False
    ) -> bool:
        """Whether all requested files exist and were made as the record says."""
        requested = [self.mask]
        requested += self.probabilities if probabilities else []
        requested += [self.lesions, self.overlay] if report else []
        requested += [self.review] if review else []
        requested += [self.segmentation] if segmentation else []
        stored = self.read_record()
        same = stored is not None and stored.model_copy(update={"mask": ""}) == record
        return same and all(path.exists() for path in requested)

    def find_foreign(self) -> Path | None:
        """A file that a new mask would replace and that autoseg did not make by its record, or that was changed since;
        None if there is none.
        """
        stored = self.read_record()
        if stored is None:
            own = (self.mask, self.segmentation, *self.probabilities, self.lesions, self.overlay, self.review)
            return next((path for path in own if path.exists()), None)
        changed = stored.mask and self.mask.exists() and sha256(self.mask) != stored.mask
        return self.mask if changed else None

    def begin(self, record: MaskRecord) -> None:
        """Declare the mask incomplete, and remove what belongs to the previous one: a killed run must not leave it
        beside a new one.

        Raises:
            StorageError: the disk refuses.
        """
        write_record(self.record, record.model_copy(update={"complete": False}))
        try:
            for path in (self.segmentation, *self.probabilities, self.lesions, self.overlay, self.review):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(explain_write_error(path, error)) from error

    def write_record(self, record: MaskRecord) -> None:
        """Declare the mask complete; the last file to be written."""
        write_record(self.record, record.model_copy(update={"mask": sha256(self.mask)}))


def read_case_records(kind: type[R], output: Path, masks: Sequence[Path], failed: Collection[str]) -> list[R]:
    """Records of all cases that the model of these masks has in the folder, in the order of their ids.

    Other commands may have made some of them (``--part``).

    Args:
        kind: of record, lesions or doubts.
        output: the folder of the masks.
        masks: the finished ones.
        failed: cases to skip, even if files of an earlier run remain.

    Raises:
        PlanError: a record is damaged.
    """
    folder, ending = output / RECORDS, ENDINGS[kind]
    advice = "delete it and run the same command again"
    records = {path.name: read_record(kind, path, advice=advice) for path in folder.glob(f"*{ending}")}
    models = {records[name].model for mask in masks if (name := f"{mask.name}{ending}") in records}
    selected = [record for record in records.values() if record.model in models and record.case not in failed]
    return sorted(selected, key=lambda record: record.case)


def ensemble_key(ensemble: Ensemble, folder: Path) -> str:
    """Hash of all members' keys, post-processing and temperature; for a single model without these its own key."""
    if (folder / BEST_RECORD).exists():
        keys = [model_key(member, folder / member.name.rpartition("/")[2]) for member in ensemble.members]
    else:
        keys = [model_key(ensemble.members[0], folder)]
        if not ensemble.postprocessing:
            return keys[0]
    return hash_settings(keys, sorted(ensemble.postprocessing.items()), ensemble.temperature)


def model_key(model: Model, folder: Path) -> str:
    """Hash of the plan, the weights' sizes and times, and the tiles; for a cascade also of its source's."""
    weights = [fold_folder(folder, fold) / WEIGHTS for fold in model.folds]
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in weights]
    own = (model.plan, model.folds, stats, model.configuration.tiling)
    if model.source is None:
        return hash_settings(*own)
    source = folder / str(model.configuration.cascade_from)
    return hash_settings(*own, model_key(model.source, source))
