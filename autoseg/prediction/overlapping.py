"""Many cases in order, overlapped: the next is read while one is predicted and the previous one is written.

Three threads and no copy between processes: reading, arithmetic and compression all release the interpreter lock.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import zip_longest
from threading import Semaphore
from typing import Any, TypeVar

import numpy as np
import torch

from autoseg.core.errors import AutosegError, DataError, StorageError, is_memory_shortage
from autoseg.core.images import read_grid
from autoseg.core.parallel import Outcome, describe_memory_shortage
from autoseg.core.records import Case, Image, Label, PreparedCase
from autoseg.model import Model
from autoseg.prediction.case import add_prior, case_rows, mask_restorer, prepare_scan, warn_of_skull
from autoseg.prediction.ensembles import Ensemble, EnsembleAverager
from autoseg.prediction.memory import MAX_FREE_SHARE, free_bytes

log = logging.getLogger(__name__)
T = TypeVar("T")
PreparedScan = tuple[tuple[PreparedCase, ...], ...]  # what ``prepare_scan`` returns, for each member

MAX_WAITING_SLABS = 4  # of logits, not yet restored
COPIES = 4  # of a scan in float32 during preprocessing: read, turned and cropped, normalised, resampled


def predict_cases(
    ensemble: Ensemble,
    cases: Sequence[Case],
    device: torch.device,
    *,
    read: Callable[[Case], Image],
    write: Callable[[Case, Label, np.ndarray | None], None],
    tune: Callable[[Ensemble, PreparedScan], Ensemble] = lambda ensemble, prepared: ensemble,
    review: Callable[[Case, Label, np.ndarray, list[np.ndarray]], None] | None = None,
    keep_probabilities: bool = False,
) -> Generator[Outcome[None], None, None]:
    """Predict cases in order; at most one is read ahead, and at most one is still being written.

    Each case gets the mask of ``predict_scan``.

    Args:
        ensemble: on ``device``.
        read: returns a case's scan; called in a thread of its own.
        write: takes a case's mask, and its probabilities if they are kept; called in a thread of its own.
        tune: takes the first scan that was read and returns the ensemble to compute with.
        review: if given, each network also predicts alone, and this is called before ``write`` with mask,
            probabilities and the foreground that each network predicts.
        keep_probabilities: pass them to ``write``.

    Yields:
        One outcome per case, in order, when its files are written or it failed.
    """

    def prepare(case: Case) -> PreparedScan:
        image = read(case)
        warn_of_skull(ensemble.members[0], case.id, image)
        return tuple(prepare_scan(member, case.id, image) for member in ensemble.members)

    def finish(case: Case, averager: EnsembleAverager) -> None:
        mask, probabilities = averager.finish()
        if review is not None and probabilities is not None:
            review(case, mask, probabilities, averager.network_masks)
        write(case, mask, probabilities if keep_probabilities else None)

    reader, writer = _Worker(max_waiting=2), _Worker(max_waiting=MAX_WAITING_SLABS)
    previous: tuple[Case, list[Future[Any]]] | None = None
    next_scan: Future[PreparedScan] | None = None
    tuned: Ensemble | None = None
    try:
        for case, following in zip_longest(cases, cases[1:]):
            current = next_scan or reader.submit(prepare, case)
            prepared, failure = _wait(case, (current,))
            del current
            next_scan = reader.submit(prepare, following) if following and _fits(ensemble, following) else None
            steps: list[Future[Any]] = []
            if prepared is not None:
                try:
                    tuned = tuned or tune(ensemble, prepared)
                    averager = EnsembleAverager(
                        tuned,
                        prepared[0][0].placement.grid,
                        keep_probabilities=keep_probabilities or review is not None,
                    )
                    for member, scan in zip(tuned.members, prepared, strict=True):
                        steps += _submit(member, scan, averager, device, writer, also_single=review is not None)
                    del prepared, scan
                    steps.append(writer.submit(finish, case, averager))
                    del averager
                except StorageError:
                    raise
                except Exception as error:
                    failure = _describe(case, error)
            if previous is not None:
                yield _outcome(*previous)
            previous = (case, steps) if failure is None else None
            if failure is not None:
                yield Outcome(name=case.id, failure=failure)
        if previous is not None:
            yield _outcome(*previous)
    finally:
        reader.close()
        writer.close()


def _submit(
    member: Model,
    scan: tuple[PreparedCase, ...],
    averager: EnsembleAverager,
    device: torch.device,
    writer: _Worker,
    *,
    also_single: bool,
) -> list[Future[Any]]:
    """Compute a member's logits here; the writer restores them as they come and adds them to the average.

    Args:
        also_single: let each of its networks predict alone as well.
    """
    case = add_prior(member, scan, device)
    restorer = mask_restorer(member, case.placement, probabilities=averager.needs_probabilities)
    steps = [writer.submit(restorer.add, rows) for rows in case_rows(member, case, device)]
    steps.append(writer.submit(averager.add, restorer))
    if also_single:
        for fold, network in zip(member.folds, member.networks, strict=True):
            single = replace(member, folds=(fold,), networks=(network,))
            restorer = mask_restorer(single, case.placement)
            steps += [writer.submit(restorer.add, rows) for rows in case_rows(single, case, device)]
            steps.append(writer.submit(averager.add_single_network, restorer))
    return steps


class _Worker:
    """One thread that runs tasks in order; ``submit`` blocks while too many wait."""

    def __init__(self, *, max_waiting: int) -> None:
        self.pool, self.slots = ThreadPoolExecutor(1), Semaphore(max_waiting)

    def submit(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        self.slots.acquire()
        future = self.pool.submit(function, *arguments)
        future.add_done_callback(lambda done: self.slots.release())
        return future

    def close(self) -> None:
        """Finish the running task and cancel the waiting ones."""
        self.pool.shutdown(cancel_futures=True)


def _outcome(case: Case, steps: Sequence[Future[Any]]) -> Outcome[None]:
    _, failure = _wait(case, steps)
    return Outcome(name=case.id, failure=failure)


def _wait(case: Case, steps: Iterable[Future[Any]]) -> tuple[Any, str | None]:
    """The value of the last step, or the sentence of the first failure, which costs this case alone.

    Raises:
        StorageError: the disk refused a file.
    """
    value: Any = None
    try:
        for step in steps:
            value = step.result()
    except StorageError:
        raise  # it would refuse every further mask as well
    except Exception as error:
        return None, _describe(case, error)
    return value, None


def _describe(case: Case, error: Exception) -> str:
    if isinstance(error, AutosegError):
        return str(error)
    if not is_memory_shortage(error):  # a bug
        log.error("case %s", case.id, exc_info=error)
        return f"case {case.id}: {type(error).__name__}: {error}"
    return f"case {case.id}: {describe_memory_shortage()}, and run the same command again"


def _fits(ensemble: Ensemble, case: Case) -> bool:
    """Whether a case can be read while another is in memory, by its header."""
    try:
        grid, _ = read_grid(case.channels[0].path)
    except DataError:
        return True  # reading it fails before it takes memory
    voxels = math.prod(grid.shape)
    needed = 0.0
    for member in ensemble.members:
        spacing = member.configuration.preprocessing.spacing
        finer = math.prod(grid.spacing) / math.prod(target for target in spacing if target) if all(spacing) else 1.0
        needed += 4 * COPIES * len(case.channels) * voxels * max(1.0, finer)
    return needed <= MAX_FREE_SHARE * free_bytes(torch.device("cpu"))
