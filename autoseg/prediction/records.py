"""What made a mask, beside the masks: one small file per mask, so that several commands can share a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autoseg.core.errors import PlanError, StorageError
from autoseg.core.images import file_ending, strip_ending
from autoseg.core.records import Case, Record
from autoseg.core.store import explain_write_error, hash_settings, read_record, write_record
from autoseg.model import WEIGHTS, Model, fold_folder
from autoseg.prediction.ensembles import BEST_RECORD, Ensemble

RECORDS = "predictions"
OVERLAYS = "overlays"


class MaskRecord(Record):
    """What made a mask, so that a second run continues.

    Attributes:
        model: key of the model's weights and plan, and of tiles and mirroring.
        name: of the model, for people.
        scan: key of the scan's files.
    """

    model: str
    name: str
    scan: str


@dataclass(frozen=True, kw_only=True)
class MaskPlace:
    """Where a case's mask, its probabilities, its record, its lesions, its picture and its doubts lie."""

    mask: Path
    probabilities: Path
    record: Path
    lesions: Path
    overlay: Path
    doubt: Path

    @classmethod
    def of(cls, output: Path, case: Case) -> MaskPlace:
        """In an output folder; the mask has the scan's own file ending."""
        ending = file_ending(case.channels[0].path) or ".nii.gz"
        return cls.of_mask(output / f"{case.id}{'.nii.gz' if ending == '.nii' else ending}")

    @classmethod
    def of_mask(cls, mask: Path) -> MaskPlace:
        """Beside a mask."""
        output, name = mask.parent, strip_ending(mask)
        return cls(
            mask=mask,
            probabilities=output / f"{name}.npz",
            record=output / RECORDS / f"{mask.name}.json",
            lesions=output / RECORDS / f"{mask.name}.lesions.json",
            overlay=output / OVERLAYS / f"{name}.png",
            doubt=output / RECORDS / f"{mask.name}.doubt.json",
        )

    def read(self) -> MaskRecord | None:
        """The record, or None without one that can be read."""
        try:
            return read_record(MaskRecord, self.record, advice="")
        except PlanError:
            return None

    def is_made(self, record: MaskRecord, *, probabilities: bool, report: bool, doubt: bool) -> bool:
        """Whether everything is there and was made as this record says."""
        wanted = [self.mask]
        wanted += [self.probabilities] if probabilities else []
        wanted += [self.lesions, self.overlay] if report else []
        wanted += [self.doubt] if doubt else []
        return all(path.exists() for path in wanted) and self.read() == record

    def clear(self) -> None:
        """Before a mask is made anew: what is killed before its end must not look like the former one.

        Raises:
            StorageError: the disk refuses.
        """
        try:
            for path in (self.record, self.probabilities, self.lesions, self.overlay, self.doubt):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(explain_write_error(path, error)) from error

    def close(self, record: MaskRecord) -> None:
        """After the mask is written."""
        write_record(self.record, record)


def ensemble_key(ensemble: Ensemble, folder: Path) -> str:
    """A hash of all members' keys, and of what is done to their mask; of a model by itself its own key."""
    if not (folder / BEST_RECORD).exists():
        return model_key(ensemble.members[0], folder)
    keys = [model_key(member, folder / member.name.rpartition("/")[2]) for member in ensemble.members]
    return hash_settings(keys, sorted(ensemble.postprocessing.items()), ensemble.temperature)


def model_key(model: Model, folder: Path) -> str:
    """A hash of the plan, the weights' sizes and times, and the tiles; of a cascade, also of its source's."""
    weights = [fold_folder(folder, fold) / WEIGHTS for fold in model.folds]
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in weights]
    own = (model.plan, model.folds, stats, model.configuration.tiling)
    if model.source is None:
        return hash_settings(*own)
    source = folder / str(model.configuration.cascade_from)
    return hash_settings(*own, model_key(model.source, source))
