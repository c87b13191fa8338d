"""Cases one after the other, while the next one is read and the last one is restored and written.

Three threads, and no copy between processes: reading, arithmetic and compression all let other threads run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import zip_longest
from threading import Semaphore
from typing import Any, TypeVar

import numpy as np
import torch

from autoseg.core.errors import AutosegError, DataError
from autoseg.core.images import read_grid
from autoseg.core.parallel import Outcome
from autoseg.core.records import Case, Image, Label, PreparedCase
from autoseg.model import Model
from autoseg.prediction import add_prior, case_rows, mask_restorer, prepare_scan
from autoseg.prediction.ensembles import Ensemble, EnsembleAverager
from autoseg.prediction.memory import SHARE, free_bytes

T = TypeVar("T")
Read = Callable[[Case], Image]
Write = Callable[[Case, Label, np.ndarray | None], None]
Hear = Callable[[Case, Label, np.ndarray, list[np.ndarray]], None]
Prepared = tuple[tuple[PreparedCase, ...], ...]  # for each member what ``prepare_scan`` gives
Tune = Callable[[Ensemble, Prepared], Ensemble]

WAITING = 4  # slabs of logits that wait to be restored, at most
COPIES = 4  # of a scan in float32 while it is preprocessed: as read, turned and cropped, normalised, resampled


def predict_cases(
    ensemble: Ensemble,
    cases: Sequence[Case],
    device: torch.device,
    *,
    read: Read,
    write: Write,
    tune: Tune = lambda ensemble, prepared: ensemble,
    hear: Hear | None = None,
    probabilities: bool = False,
) -> Generator[Outcome[None], None, None]:
    """Predict cases in order; at most one is read ahead, and at most one still being written.

    What is written of a model by itself is what ``predict_scan`` gives for each case.

    Args:
        ensemble: on ``device``.
        read: a case's scan; in a thread of its own.
        write: mask and probabilities of a case; in a thread of its own.
        tune: given the first case that was read, the ensemble to compute with.
        hear: given, each network predicts by itself, too; it gets mask, probabilities and the foreground of each one's
            own mask before ``write`` is called.
        probabilities: keep and write them.

    Yields:
        One outcome per case in the order of cases, when its files are written or it failed.
    """

    def prepare(case: Case) -> Prepared:
        image = read(case)
        return tuple(prepare_scan(member, case.id, image) for member in ensemble.members)

    def finish(case: Case, mixer: EnsembleAverager) -> None:
        mask, shares = mixer.finish()
        if hear is not None and shares is not None:
            hear(case, mask, shares, mixer.voices)
        write(case, mask, shares if probabilities else None)

    reader, writer = _Worker(waiting=2), _Worker(waiting=WAITING)
    behind: tuple[Case, list[Future[Any]]] | None = None
    ahead: Future[Prepared] | None = None
    tuned: Ensemble | None = None
    try:
        for case, following in zip_longest(cases, cases[1:]):
            current = ahead or reader.submit(prepare, case)
            prepared, failure = _settle(case, (current,))
            del current
            ahead = reader.submit(prepare, following) if following and _fits(ensemble, following) else None
            steps: list[Future[Any]] = []
            if prepared is not None:
                try:
                    tuned = tuned or tune(ensemble, prepared)
                    mixer = EnsembleAverager(
                        tuned, prepared[0][0].placement.grid, keep=probabilities or hear is not None
                    )
                    for member, scan in zip(tuned.members, prepared, strict=True):
                        steps += _submit(member, scan, mixer, device, writer, alone=hear is not None)
                    del prepared, scan
                    steps.append(writer.submit(finish, case, mixer))
                    del mixer
                except (AutosegError, MemoryError) as error:
                    failure = _explain(case, error)
            if behind is not None:
                yield _conclude(*behind)
            behind = (case, steps) if failure is None else None
            if failure is not None:
                yield Outcome(name=case.id, failure=failure)
        if behind is not None:
            yield _conclude(*behind)
    finally:
        reader.close()
        writer.close()


def _submit(
    member: Model,
    scan: tuple[PreparedCase, ...],
    mixer: EnsembleAverager,
    device: torch.device,
    writer: _Worker,
    *,
    alone: bool,
) -> list[Future[Any]]:
    """Compute a member's logits here, and let the writer restore them as they come and mix them in.

    Args:
        alone: each of its networks by itself as well.
    """
    own = add_prior(member, scan, device)
    wanted = mixer.keep or mixer.ensemble.needs_probabilities
    restorer = mask_restorer(member, own.placement, probabilities=wanted)
    steps = [writer.submit(restorer.add, rows) for rows in case_rows(member, own, device)]
    steps.append(writer.submit(mixer.add, restorer))
    if alone:
        for fold, network in zip(member.folds, member.networks, strict=True):
            single = replace(member, folds=(fold,), networks=(network,))
            restorer = mask_restorer(single, own.placement)
            steps += [writer.submit(restorer.add, rows) for rows in case_rows(single, own, device)]
            steps.append(writer.submit(mixer.hear, restorer))
    return steps


class _Worker:
    """One thread that does things in order; whoever gives it more than may wait, waits."""

    def __init__(self, *, waiting: int) -> None:
        self.pool, self.slots = ThreadPoolExecutor(1), Semaphore(waiting)

    def submit(self, act: Callable[..., T], *arguments: Any) -> Future[T]:
        self.slots.acquire()
        future = self.pool.submit(act, *arguments)
        future.add_done_callback(lambda done: self.slots.release())
        return future

    def close(self) -> None:
        """Finish what is under way, and nothing more."""
        self.pool.shutdown(cancel_futures=True)


def _conclude(case: Case, steps: Sequence[Future[Any]]) -> Outcome[None]:
    _, failure = _settle(case, steps)
    return Outcome(name=case.id, failure=failure)


def _settle(case: Case, steps: Iterable[Future[Any]]) -> tuple[Any, str | None]:
    """The value of the last step, or why there is none; a bug is raised as it is."""
    value: Any = None
    try:
        for step in steps:
            value = step.result()
    except (AutosegError, MemoryError) as error:
        return None, _explain(case, error)
    return value, None


def _explain(case: Case, error: AutosegError | MemoryError) -> str:
    if isinstance(error, AutosegError):
        return str(error)
    return f"case {case.id}: the machine ran out of memory; close other programs and run the same command again"


def _fits(ensemble: Ensemble, case: Case) -> bool:
    """Whether a case can be read while another is in memory, by its header."""
    try:
        grid, _ = read_grid(case.channels[0].path)
    except DataError:
        return True  # there will be nothing to keep
    voxels = math.prod(grid.shape)
    needed = 0.0
    for member in ensemble.members:
        spacing = member.configuration.preprocessing.spacing
        finer = math.prod(grid.spacing) / math.prod(target for target in spacing if target) if all(spacing) else 1.0
        needed += 4 * COPIES * len(case.channels) * voxels * max(1.0, finer)
    return needed <= SHARE * free_bytes(torch.device("cpu"))
