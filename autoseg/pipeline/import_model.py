"""``autoseg_import_model``: a model of nnU-Net v2 -> a model folder of autoseg."""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from autoseg.core.errors import StorageError, UsageError
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Plan
from autoseg.core.runs import RUN, recorded
from autoseg.core.store import Store, check_name, explain_write_error, hidden_beside, remove_leftovers
from autoseg.core.text import join_names
from autoseg.model import PLAN, save_plan, save_weights, trained_folds
from autoseg.options import ImportModelOptions, command_line
from autoseg.transfer import FoundModel, ModelFiles, find_models, open_model_files, read_folds

log = logging.getLogger(__name__)


def import_model(store: Store, options: ImportModelOptions, *, progress: Progress = no_progress) -> list[Path]:
    """Write the models of a folder or an exported zip to ``autoseg_results/<name>``, all of them or none.

    Returns:
        The model folders.

    Raises:
        UsageError: the source holds no such model, or there is a model of that name already.
        ModelError: a model is damaged, could run code, or cannot be reproduced.
        StorageError: the disk refused a write.
    """
    name = options.dataset
    check_name(name, "dataset")
    with open_model_files(options.source) as opened:
        models = find_models(opened, options.configurations)
        targets = [store.results(name, model.name) for model in models]
        for target in targets:
            _restore_previous(target)
        existing = [target for target in targets if target.exists()]
        if existing and not options.replace:
            raise UsageError(_describe_existing(existing, [target for target in targets if target not in existing]))
        with _temporary_folder(hidden_beside(store.results_root / name / "importing_model")) as making:
            for model in models:
                with recorded(
                    store, making / model.name / RUN, ("autoseg_import_model", *command_line(options))
                ) as run:
                    _import_one(
                        opened, model, making / model.name, name, any_trainer=options.any_trainer, progress=progress
                    )
                    run.begin()
                    run.add_model(making / model.name)
            for model, target in zip(models, targets, strict=True):
                _publish_model(making / model.name, target, replace=options.replace)
    for target in targets:
        log.info("%s: ready; predict with: autoseg_predict -i SCANS -o MASKS -d %s -c %s", target, name, target.name)
    return targets


def _describe_existing(existing: Sequence[Path], missing: Sequence[Path]) -> str:
    """One sentence on models that are in the way; an import that was killed may have left some of several."""
    one = len(existing) == 1
    complete = all((path / PLAN).exists() and trained_folds(path) for path in existing)
    state = f"{'exists' if one else 'exist'} already{', complete' if complete else ''}"
    rest = f"; import what is missing with -c {' '.join(path.name for path in missing)}" if missing else ""
    return (
        f"{join_names([str(path) for path in existing])} {state}{rest}; import under another name with -d, or "
        f"replace {'it' if one else 'them'} with --replace"
    )


def _import_one(
    source: ModelFiles, model: FoundModel, folder: Path, name: str, *, any_trainer: bool, progress: Progress
) -> Plan:
    """Write one model; of a cascade, also its previous stage, in the cascade's folder."""
    previous_plan = None
    if model.previous_stage is not None:
        inner = folder / model.previous_stage.name
        previous_plan = _import_one(
            source, model.previous_stage, inner, name, any_trainer=any_trainer, progress=progress
        )
    folds = read_folds(source, model, dataset=name, any_trainer=any_trainer, previous_plan=previous_plan)
    for number, fold in enumerate(folds):
        save_plan(folder, fold.plan)  # the same for every fold
        save_weights(folder, fold.fold, fold.weights)
        progress(number + 1, len(model.folds), f"importing {model.configuration}")
    return fold.plan


@contextmanager
def _temporary_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder, empty at first and removed afterwards."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder.parent)
        folder.mkdir()
        yield folder
    except OSError as error:
        raise StorageError(explain_write_error(folder.parent, error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _previous(target: Path) -> Path:
    """Place of the previous model while a new one takes its name; nothing removes it as a leftover."""
    return target.with_name(f".{target.name}.replaced")


def _restore_previous(target: Path) -> None:
    """Give a model its name back where an import with ``--replace`` was killed before the new one had it.

    Raises:
        StorageError: the disk refused.
    """
    previous = _previous(target)
    if not previous.is_dir() or target.exists():
        return
    try:
        previous.rename(target)
    except OSError as error:
        raise StorageError(explain_write_error(target, error)) from error
    log.warning("%s: restored; an import that was to replace it was interrupted", target)


def _publish_model(new: Path, target: Path, *, replace: bool) -> None:
    """Rename a complete model to its name; a previous one is removed once the new one has it.

    Raises:
        UsageError: another command has published a model of that name meanwhile.
    """
    previous = _previous(target)
    if replace and target.exists():
        shutil.rmtree(previous, ignore_errors=True)  # of an import that was killed while it removed it
        target.rename(previous)
    try:
        new.rename(target)  # fails where a model is
    except OSError as error:
        _restore_previous(target)
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise UsageError(
            f"{target} exists already: another command made it meanwhile; use it, or import again with --replace"
        ) from error
    shutil.rmtree(previous, ignore_errors=True)
