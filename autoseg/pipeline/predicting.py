"""``autoseg_predict``: masks of new scans, on each scan's own grid."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import Field

from autoseg.core.errors import AutosegError, CasesError, PlanError, UsageError
from autoseg.core.images import file_ending, write_voxels
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Case, Record
from autoseg.core.store import Store, hash_settings, read_record, subfolders, write_record
from autoseg.datasets import find_scans, read_image
from autoseg.model import WEIGHTS, Model, fold_folder, load_model, trained_folds
from autoseg.pipeline.machine import choose_device, name_device, use_all_cores
from autoseg.pipeline.planning import source_key
from autoseg.prediction import predict_scan

log = logging.getLogger(__name__)

JOURNAL = "predictions.json"


class Journal(Record):
    """What made each mask of an output folder, so that a second run continues.

    Attributes:
        model: key of the model's weights and plan.
        name: of the model, for people.
        masks: file name -> key of the scan's files.
    """

    model: str
    name: str
    masks: dict[str, str] = Field(default_factory=dict)


def predict(
    store: Store,
    scans: Path,
    output: Path,
    *,
    dataset: str | None = None,
    configuration: str | None = None,
    folds: Sequence[str] | None = None,
    device: str = "auto",
    resample_channels: bool = False,
    progress: Progress = no_progress,
) -> list[Path]:
    """Predict every scan of a folder; masks that this model already made of the same files stay.

    Args:
        scans: ``<case>_0000.nii.gz`` files, single-channel scans, or one folder per case.
        output: gets one mask per case, in the scan's own file format.
        dataset, configuration, folds: which model; None where only one is trained (all its folds are averaged).

    Returns:
        The masks, those made before included.

    Raises:
        UsageError: no scan, no model, or several to choose from.
        CasesError: some scans failed; the others are done.
    """
    if output.resolve() == scans.resolve():
        raise UsageError(f"{output} is the folder of the scans; choose another one for the masks")
    folder = choose_model(store, dataset, configuration)
    target = choose_device(device)
    use_all_cores()
    model = load_model(folder, folds, target)
    cases, failures = find_scans(scans, model.plan.channels)
    total = len(cases) + len(failures)
    if not total:
        raise UsageError(f"{scans} holds no scan; {_expected(model)}")
    log.info(
        "predicting %d scans with %s, folds %s, on %s", total, model.name, ", ".join(model.folds), name_device(target)
    )
    if model.source is not None:
        log.info("each scan first with its source %s, folds %s", model.source.name, ", ".join(model.source.folds))
    journal = _open_journal(output, model, folder)
    masks: list[Path] = []
    for number, case in enumerate(cases):
        progress(number, len(cases), f"predicting {case.id}")
        path = output / f"{case.id}{_mask_ending(case)}"
        try:
            key = source_key(case)
            if not (path.exists() and journal.masks.get(path.name) == key):
                _predict_one(model, case, path, target, resample_channels)
                journal = journal.model_copy(update={"masks": {**journal.masks, path.name: key}})
                write_record(output / JOURNAL, journal)
            masks.append(path)
        except AutosegError as error:
            log.warning("%s", error)
            failures = {**failures, case.id: str(error)}
    progress(len(cases), len(cases), "predicting")
    if failures:
        raise CasesError(failures, of=total, doing="predicting")
    return masks


def choose_model(store: Store, dataset: str | None, configuration: str | None) -> Path:
    """The only trained model that fits what was said.

    Raises:
        UsageError: none or several fit; the message lists the choices.
    """
    trained = [
        (name, kind)
        for name in subfolders(store.results_root)
        for kind in subfolders(store.results_root / name)
        if trained_folds(store.results(name, kind))
    ]
    fitting = [(n, c) for n, c in trained if dataset in (None, n) and configuration in (None, c)]
    if len(fitting) == 1:
        return store.results(*fitting[0])
    choices = "; ".join(f"-d {n} -c {c}" for n, c in (fitting or trained))
    if fitting:
        raise UsageError(f"several models are trained; choose one with: {choices}")
    if trained:
        raise UsageError(f"no model of that name is trained in {store.results_root}; there are: {choices}")
    unfinished = [str(p.parent) for p in store.results_root.glob("*/*/fold_*/checkpoint.pt")]
    hint = (
        f"finish the training begun in {unfinished[0]}"
        if unfinished
        else "train one with: autoseg_train -d NAME -c 3d -f 0"
    )
    raise UsageError(f"no model is trained in {store.results_root}; {hint}")


def _predict_one(model: Model, case: Case, path: Path, device: torch.device, resample_channels: bool) -> None:
    image = read_image(case.id, case.channels, model.plan.channels, resample_channels=resample_channels)
    mask = predict_scan(model, case.id, image, device)
    write_voxels(path, mask.voxels, mask.grid, like=case.channels[0].path)


def _mask_ending(case: Case) -> str:
    ending = file_ending(case.channels[0].path) or ".nii.gz"
    return ".nii.gz" if ending == ".nii" else ending


def _open_journal(output: Path, model: Model, folder: Path) -> Journal:
    """The output folder's journal, begun anew when another model made it."""
    fresh = Journal(model=_model_key(model, folder), name=model.name)
    path = output / JOURNAL
    if not path.exists():
        return fresh
    try:
        found = read_record(Journal, path, remedy="")
    except PlanError:
        return fresh
    if found.model != fresh.model:
        log.info("%s holds masks of another model (%s); they are predicted again", output, found.name)
        return fresh
    return found


def _model_key(model: Model, folder: Path) -> str:
    """A hash of the plan and the weights' sizes and times; of a cascade, also of its source's."""
    weights = [fold_folder(folder, fold) / WEIGHTS for fold in model.folds]
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in weights]
    if model.source is None:
        return hash_settings(model.plan, model.folds, stats)
    source = folder / str(model.configuration.cascade_from)
    return hash_settings(model.plan, model.folds, stats, _model_key(model.source, source))


def _expected(model: Model) -> str:
    channels = model.plan.channels
    if len(channels) == 1:
        return f"expected <case>.nii.gz or <case>_0000.nii.gz files ({channels[0]})"
    numbered = ", ".join(f"_{number:04d} = {name}" for number, name in enumerate(channels))
    return (
        f"expected <case>_0000.nii.gz files ({numbered}), or a folder per case with {', '.join(channels)} in file names"
    )
