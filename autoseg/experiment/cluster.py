"""Folds and scores handed to the workers of a Dask cluster. The only file that knows Dask.

A worker runs one thing at a time. A training is a process of its own, our own command, so that it resumes, frees its
GPU when it ends, and cannot take the worker with it.
"""

from __future__ import annotations

import logging
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import autoseg
from autoseg.core.errors import AutosegError, CasesError, UsageError
from autoseg.core.parallel import Progress
from autoseg.core.store import Store, write_text
from autoseg.experiment.child_processes import Training, run_training
from autoseg.experiment.records import ExperimentPaths
from autoseg.experiment.requests import Job, Report, Stopped, TrainingRequest, Work
from autoseg.options import RunOptions, command_line

if TYPE_CHECKING:
    from autoseg.experiment.comparison import RunCases
    from autoseg.experiment.training import ExperimentProgress

log = logging.getLogger(__name__)

QUEUES = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster"}
RETRIES = 3
CONNECT_S = 30
POLL_S = 0.3


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A connected cluster.

    Attributes:
        client: of Dask.
        lanes: things that can be done at the same time.
        gpus: of this machine, where workers run on it and share them; 0 elsewhere, where each has its own.
        token: file in the shared folder, which every worker must be able to read.
        halt: file whose presence tells workers to stop.
    """

    client: Any
    lanes: int
    gpus: int
    token: Path
    halt: Path


@contextmanager
def open_cluster(options: RunOptions, store: Store, gpus: int, should_stop: Callable[[], bool]) -> Iterator[Cluster]:
    """Start or join a cluster, and see that its workers share our folder.

    Args:
        options: of the experiment.
        store: its root must be the same folder for every worker.
        gpus: of this machine.
        should_stop: asked while no worker is there.

    Raises:
        Stopped: as asked.
        UsageError: Dask is missing, no scheduler answers, a worker sees another folder or another version of autoseg.
    """
    distributed = _import_dask()
    folder = ExperimentPaths.of(Store(store.root.resolve()), options.dataset).results / "experiment"
    address = options.cluster or "local"
    name = uuid.uuid4().hex
    token, halt = folder / f".token-{name}", folder / f".halt-{name}"
    with ExitStack() as stack:
        stack.callback(halt.unlink, missing_ok=True)
        stack.callback(token.unlink, missing_ok=True)
        write_text(token, name)
        started, lanes = _start(options, address, distributed, gpus)
        if started is not None:
            stack.callback(started.close)
        try:
            client = distributed.Client(started or address, timeout=CONNECT_S)
        except (OSError, ValueError, TimeoutError) as error:
            raise UsageError(
                f"--cluster {address}: no scheduler answers there ({error}); start one with: dask scheduler"
            ) from error
        stack.callback(client.close)
        log.info("waiting for a worker of %s", client.scheduler.address)
        _wait_for_workers(client, lanes if address == "local" else 1, should_stop)
        _check_workers(client, token, name)
        if started is None:
            lanes = len(client.scheduler_info(n_workers=-1)["workers"])
        log.info("%d workers share %s", lanes, folder.parent)
        local = gpus if address == "local" else 0
        yield Cluster(client=client, lanes=lanes, gpus=local, token=token, halt=halt)


def work_on_cluster(
    cluster: Cluster,
    store: Store,
    options: RunOptions,
    course: ExperimentProgress,
    *,
    should_stop: Callable[[], bool],
) -> Work:
    """Jobs side by side, one per worker; one that is lost with its worker goes on elsewhere, three times at most."""
    logs = course.places.results.resolve() / "experiment" / "logs"

    def work(orders: Iterable[TrainingRequest]) -> Iterator[Report]:
        jobs, trained_s = {}, {}
        for order in orders:
            task = Training(
                command=_command(store, options, order),
                log=logs / f"{order.job.name.replace(' ', '_')}.log",
                token=cluster.token,
                halt=cluster.halt,
                device=options.device,
                gpus=cluster.gpus,
            )
            trained_s[order.job] = course.trained_s(order.job)
            jobs[_submit(cluster, order.job.name, _train, task)] = order.job
            log.info("handed out: %s %s%s", options.dataset, order.job.name, order.describe())
        for future in _as_they_end(cluster, jobs, should_stop):
            report = _report(jobs[future], future)
            trained = course.trained_s(report.job) - trained_s[report.job]
            yield replace(report, beside_s=report.beside_s - trained)

    return work


def run_on_cluster(cluster: Cluster, should_stop: Callable[[], bool]) -> RunCases:
    """``run_cases`` on a cluster: the same arguments, of which the number of processes does not count."""

    def run(
        function: Callable[[Any], Any],
        tasks: Sequence[tuple[str, Any]],
        workers: int,
        keep: Callable[[str, Any], None],
        doing: str,
        progress: Progress,
    ) -> None:
        names = {_submit(cluster, f"{doing} {name}", _attempt, function, task): name for name, task in tasks}
        failures: dict[str, str] = {}
        progress(0, len(tasks), doing)
        try:
            for done, future in enumerate(_as_they_end(cluster, names, should_stop), start=1):
                name, error = names[future], future.exception()
                value, failure = (None, f"case {name}: {_say_lost(error)}") if error is not None else future.result()
                if failure is None:
                    keep(name, value)
                else:
                    failures[name] = failure
                future.release()
                progress(done, len(tasks), doing)
        finally:
            cluster.client.cancel([future for future in names if not future.done()])
        if failures:
            raise CasesError(failures, of=len(tasks), doing=doing)

    return run


# ------------------------------------------------------------------------------------------- on the workers


def _attempt(function: Callable[[Any], Any], task: Any) -> tuple[Any, str | None]:
    """A value, or one sentence on why there is none; what the user must put right is not tried again."""
    try:
        return function(task), None
    except AutosegError as error:
        return None, str(error)


def _train(task: Training) -> tuple[str | None, bool, float]:
    """As ``run_training``, on this worker."""
    return run_training(task, is_wanted=_is_wanted, number=_own_number())


def _is_wanted() -> bool:
    """Whether somebody still waits for what this worker does: it was not cancelled, and who asked is not gone."""
    from distributed import get_worker

    worker = get_worker()
    state = worker.state.tasks.get(worker.get_current_task())
    return state is not None and state.state not in ("cancelled", "released")


def _own_number() -> int | None:
    """The number of this worker among those that were started together."""
    from distributed import get_worker

    name = str(get_worker().name)
    return int(name) if name.isdigit() else None


def _read_token(path: str) -> tuple[str, str, str]:
    """What a worker reads in the shared folder, its version of autoseg, and where it runs."""
    found = Path(path).read_text() if Path(path).exists() else ""
    return found, autoseg.__version__, os.uname().nodename


# ------------------------------------------------------------------------------------------- on our side


def _import_dask() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise UsageError("--cluster needs Dask; install it with: pip install autoseg[cluster]") from error
    return distributed


def _queue_class(name: str) -> Any:
    try:
        import dask_jobqueue
    except ImportError as error:
        message = f"--cluster {name} needs dask-jobqueue; install it with: pip install autoseg[cluster]"
        raise UsageError(message) from error
    return getattr(dask_jobqueue, QUEUES[name])


def _start(options: RunOptions, address: str, distributed: Any, gpus: int) -> tuple[Any, int]:
    """A cluster that was started for us, or None where there is one already; and how many workers it is to have."""
    host = options.scheduler_host or "127.0.0.1"
    lanes = options.workers or (gpus or 1 if address == "local" else 1)
    if address == "local":
        cluster = distributed.LocalCluster(
            n_workers=lanes,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            host=host,
            dashboard_address="127.0.0.1:0",  # of this machine alone, on any port
        )
        return cluster, lanes
    if address in QUEUES:
        if options.scheduler_host is None:
            raise UsageError(
                f"--cluster {address}: workers on other machines must reach the scheduler, which listens to this "
                f"machine alone; say where it may listen with --scheduler-host ADDRESS, in a network you trust"
            )
        try:
            cluster = _queue_class(address)(
                processes=1, n_workers=lanes, scheduler_options={"host": host, "dashboard_address": "127.0.0.1:0"}
            )
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"--cluster {address}: {error}; describe a job (queue, cores, memory, GPU) in "
                f"~/.config/dask/jobqueue.yaml, see docs/experiments.md"
            ) from error
        return cluster, lanes
    if not re.fullmatch(r"(tcp|tls|ucx|ws|wss)://\S+:\d+", address):
        raise UsageError(
            f"--cluster {address}: write local, slurm, pbs, lsf, or the address of a scheduler, as tcp://127.0.0.1:8786"
        )
    return None, lanes


def _wait_for_workers(client: Any, count: int, should_stop: Callable[[], bool]) -> None:
    """Until as many are there, however long a queue lets them wait."""
    while not should_stop():
        try:
            client.wait_for_workers(count, timeout=1)
        except TimeoutError:
            continue
        return
    raise Stopped


def _check_workers(client: Any, token: Path, name: str) -> None:
    """Raises UsageError where a worker sees another folder or has another version."""
    for where, (found, version, machine) in client.run(_read_token, str(token)).items():
        if found != name:
            raise UsageError(
                f"the worker {where} on {machine} does not see {token.parent}; put the root into a folder that all "
                f"workers share, under the same path"
            )
        if version != autoseg.__version__:
            raise UsageError(
                f"the worker {where} on {machine} has autoseg {version}, and this is {autoseg.__version__}; install "
                f"the same on both"
            )


def _command(store: Store, options: RunOptions, order: TrainingRequest) -> tuple[str, ...]:
    """The arguments of ``autoseg_train`` for a job, without a device."""
    training = replace(order.options(options), end_with_parent=True, device="auto")
    return (*command_line(training), "--root", str(store.root.resolve()))


def _submit(cluster: Cluster, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Hand something out under a name of its own; what is lost with its worker is tried again."""
    key = f"{name} {uuid.uuid4().hex}"
    return cluster.client.submit(function, *arguments, key=key, retries=RETRIES, pure=False)


def _as_they_end(cluster: Cluster, futures: Iterable[Any], should_stop: Callable[[], bool]) -> Iterator[Any]:
    """Futures in the order in which they end; asked to stop, the workers are told and waited for."""
    from distributed import wait

    running = set(futures)
    while running:
        if should_stop() and not cluster.halt.exists():
            log.info("telling the workers to stop; they finish their step and write")
            write_text(cluster.halt, "")
        try:
            ended = wait(running, timeout=POLL_S, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            continue
        running -= ended
        yield from ended


def _report(job: Job, future: Any) -> Report:
    error = future.exception()
    if error is not None:
        return Report(job=job, failure=_say_lost(error))
    failure, stopped, seconds = future.result()
    return Report(job=job, failure=failure, stopped=stopped, beside_s=seconds)


def _say_lost(error: BaseException) -> str:
    if type(error).__name__ == "KilledWorker":
        return f"its worker died {RETRIES + 1} times; most likely its machine runs out of memory, see the worker's log"
    return f"{type(error).__name__}: {error}"
