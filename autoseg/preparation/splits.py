"""The folds of a dataset: made as requested or as before, imported, checked, read back."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.core.errors import PlanError
from autoseg.core.records import Fingerprint, FoldRule, Folds
from autoseg.core.records.base import FOREIGN_JSON_BYTES, parse_json
from autoseg.core.store import Store, read_record
from autoseg.core.text import join_names
from autoseg.planning import describe_rule, find_split_groups, labelled_groups, make_folds, read_folds_content
from autoseg.preparation.edits import Edited, PendingFile, is_edited, resolve_edits

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FoldOptions:
    """Requested folds; at most one of these.

    Attributes:
        file: a ``folds.json`` of autoseg, or nnU-Net's ``splits_final.json``, to import.
        count: how many to make.
        leave_one_site_out: one fold per site.
    """

    file: Path | None = None
    count: int | None = None
    leave_one_site_out: bool = False

    @property
    def is_given(self) -> bool:
        """Whether any option is given; otherwise folds are made as before."""
        return self.file is not None or self.count is not None or self.leave_one_site_out


def read_folds(store: Store, name: str) -> Folds:
    """The folds of a dataset, read from disk."""
    path = store.preprocessed(name) / "folds.json"
    return read_record(Folds, path, advice=f"make it with: autoseg_plan -d {name}")


def import_folds(path: Path, cases: Collection[str]) -> Folds:
    """Read folds from a file, and check them before any long step.

    Args:
        path: as given by the user.
        cases: ids that the dataset has with a label.

    Raises:
        PlanError: it is missing, not JSON, or its folds are wrong.
    """
    try:
        content = parse_json(path.read_bytes(), max_bytes=FOREIGN_JSON_BYTES)
    except FileNotFoundError as error:
        raise PlanError(f"--folds: {path} does not exist; give a folds.json or a splits_final.json") from error
    except (OSError, ValueError) as error:
        raise PlanError(f"--folds: {path} cannot be read as JSON ({error}); correct the file") from error
    return read_folds_content(content, cases=cases, source=str(path))


def resolve_folds(
    path: Path,
    fingerprint: Fingerprint,
    options: FoldOptions,
    imported: Folds | None,
    edited: Edited,
    *,
    seed: int,
) -> PendingFile[Folds]:
    """Make the folds that were requested, or the same way as before; imported ones stay until others are requested.

    Args:
        path: ``folds.json``.
        imported: content of ``options.file``.
        edited: what to do when ``folds.json`` was edited by hand.
        seed: shuffles folds that are made.

    Raises:
        PlanError: ``folds.json`` was edited and neither --keep nor --replace is given, or it is wrong.
        DataError: the dataset allows no such folds.
    """
    name = fingerprint.dataset
    if options.is_given and edited == "keep" and is_edited(path):
        raise PlanError(
            f"{path} was edited by hand, and --keep uses it unchanged; leave out the option that makes other folds, or "
            f"move the file away"
        )
    before = None if options.is_given else _folds_before(path)
    if before is not None and before.made_by.rule == "file":
        pending = _keep_imported(path, before, edited, name)
    else:
        rule = _rule(options, before)
        fresh = imported or make_folds(
            fingerprint, count=rule.count, seed=seed, leave_one_site_out=rule.rule == "leave_one_site_out"
        )
        pending = resolve_edits(path, fresh, edited, name)
    labelled = sorted(case.case for cases in labelled_groups(fingerprint).values() for case in cases)
    check_folds(pending.record, set(labelled), path)
    _log_split(pending.record, fingerprint, labelled)
    return pending


def check_folds(folds: Folds, cases: set[str], path: Path) -> None:
    """Every id in the folds must be a case of the dataset that has a label; a warning names cases in no fold.

    Raises:
        PlanError: an id is unknown.
    """
    used = {case for fold in folds.folds for case in (*fold.train, *fold.validation)}
    unknown = sorted(used - cases)
    if unknown:
        raise PlanError(
            f"{path} names {len(unknown)} cases that the dataset does not have with a label "
            f"({join_names(unknown, limit=3)}); correct it, or delete it and run autoseg_plan again"
        )
    unused = sorted(cases - used)
    if unused:
        log.warning(
            "%d labelled cases are in no fold and will not be used (%s); plan again, or import folds that hold them",
            len(unused),
            join_names(unused, limit=3),
        )


def _folds_before(path: Path) -> Folds | None:
    """The folds on disk; None where there are none, or none that can be read (resolving reports it)."""
    try:
        return read_record(Folds, path, advice="")
    except PlanError:
        return None


def _rule(options: FoldOptions, before: Folds | None) -> FoldRule:
    if options.leave_one_site_out:
        return FoldRule(rule="leave_one_site_out")
    if options.count is not None or before is None:
        return FoldRule(count=options.count)
    return before.made_by


def _keep_imported(path: Path, before: Folds, edited: Edited, name: str) -> PendingFile[Folds]:
    """Imported folds, unchanged: the file that they were imported from may be gone."""
    if is_edited(path) and edited != "keep":
        raise PlanError(
            f"{path} was imported from {before.made_by.file} and then edited by hand; autoseg_plan -d {name} --keep "
            f"uses it unchanged; or move it away and import it with --folds again, or make others with --fold-count"
        )
    return PendingFile(path=path, record=before, action="keep")


def _log_split(folds: Folds, fingerprint: Fingerprint, labelled: Sequence[str]) -> None:
    """Log how the cases were split, with warnings."""
    groups = labelled_groups(fingerprint)
    patients = f" of {len(groups)} patients" if len(groups) < len(labelled) else ""
    log.info("folds: %d, %s; %d cases%s", len(folds.folds), describe_rule(folds), len(labelled), patients)
    requested = folds.made_by.count
    if requested is not None and requested > len(folds.folds):
        log.warning("%d folds were requested, but only %d patients can be held out", requested, len(groups))
    split = find_split_groups(folds, fingerprint)
    if split:
        log.warning(
            "scans of %d patients are both trained on and held out (%s), so scores will be too good; keep a patient's "
            "scans on one side",
            len(split),
            join_names([f"{patient} in fold {number}" for patient, number in split.items()], limit=3),
        )
