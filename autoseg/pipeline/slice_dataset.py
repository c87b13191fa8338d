"""``autoseg_slice``: a dataset of slices, to reproduce work that was split and scored by slice."""

from __future__ import annotations

import logging

from autoseg.core.parallel import Progress, count_workers, no_progress
from autoseg.core.runs import RUN, recorded
from autoseg.core.store import Store
from autoseg.datasets.slicing import slice_dataset
from autoseg.options import SliceOptions, command_line
from autoseg.preparation.measuring import bytes_per_case
from autoseg.preparation.raw import list_all_files, open_raw

log = logging.getLogger(__name__)


def slice_raw(store: Store, options: SliceOptions, *, progress: Progress = no_progress) -> int:
    """Write the slices of a dataset's labelled cases under ``autoseg_raw/<into>``; returns their number.

    Raises:
        UsageError, CasesError: as ``slice_dataset``.
    """
    dataset = open_raw(store, options.dataset)
    into, fitting = options.into, options.workers or count_workers(len(dataset.cases), bytes_per_case(dataset))
    with recorded(store, store.raw(into) / RUN, ("autoseg_slice", *command_line(options))) as run:
        sliced = slice_dataset(dataset, store.raw(into), into, options, workers=fitting, progress=progress)
        run.begin()  # the folder appears when all of it is there
        run.add_files(dataset.name, list_all_files(dataset))
    volumes = sum(bool(case.labels) for case in dataset.cases)
    log.info("%s: %d slices of %d cases", store.raw(into), len(sliced.cases), volumes)
    if not options.keep_patients:
        log.warning(
            "slices of one patient are on both sides of every fold; scores on %s reproduce a protocol and do not hold "
            "for new patients",
            into,
        )
    log.info("next: autoseg_plan -d %s", into)
    return len(sliced.cases)
