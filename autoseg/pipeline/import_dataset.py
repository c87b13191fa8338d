"""``autoseg_import``: a dataset as distributed -> autoseg's raw layout."""

from __future__ import annotations

import logging

from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Dataset
from autoseg.core.store import Store
from autoseg.datasets import import_dataset, log_left_out
from autoseg.options import ImportOptions

log = logging.getLogger(__name__)


def import_raw(store: Store, options: ImportOptions, *, progress: Progress = no_progress) -> Dataset:
    """Check every case of a dataset and write it under ``autoseg_raw/<name>``; the source is never changed."""
    name = options.dataset
    dataset = import_dataset(options, store.raw(name), progress=progress)
    log_left_out(dataset)
    log.info("%s: %d cases, channels %s", store.raw(name), len(dataset.cases), ", ".join(dataset.channels))
    log.info("next: autoseg_plan -d %s", name)
    return dataset
