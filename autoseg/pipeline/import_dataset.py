"""``autoseg_import``: a dataset as distributed -> autoseg's raw layout."""

from __future__ import annotations

import logging

from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Dataset
from autoseg.core.runs import RUN, recorded
from autoseg.core.store import Store
from autoseg.datasets import import_dataset, log_left_out
from autoseg.options import ImportOptions, command_line
from autoseg.preparation.raw import list_all_files

log = logging.getLogger(__name__)


def import_raw(store: Store, options: ImportOptions, *, progress: Progress = no_progress) -> Dataset:
    """Check every case of a dataset and write it under ``autoseg_raw/<name>``; the source is never changed."""
    name = options.dataset
    target = store.raw(name)
    with recorded(store, target / RUN, ("autoseg_import", *command_line(options))) as run:
        dataset = import_dataset(options, target, progress=progress)
        run.begin()  # the folder appears when all of it is there
        run.add_files(name, list_all_files(dataset))
        log_left_out(dataset)
        log.info("%s: %d cases, channels %s", target, len(dataset.cases), ", ".join(dataset.channels))
        log.info("next: autoseg_check -d %s shows every case; then autoseg_plan -d %s", name, name)
        return dataset
