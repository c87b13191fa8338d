"""Trainings and scores on the workers of a Dask cluster. The only file that uses Dask.

A worker runs one task at a time. A training is a process of its own, ``autoseg_train``, so that it resumes, frees its
GPU when it ends, and cannot crash the worker.
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
from autoseg.experiment.child_processes import ChildTraining, run_training
from autoseg.experiment.records import (
    ExperimentPaths,
    Job,
    RunCases,
    RunTrainings,
    Stopped,
    TrainingRequest,
    TrainingResult,
)
from autoseg.options import RunOptions, command_line

if TYPE_CHECKING:
    from autoseg.experiment.train_all import ExperimentProgress

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
        parallel_slots: number of workers.
        gpus: of this machine, where workers run on it and share them; 0 elsewhere, where each has its own.
        token: file in the shared folder, which every worker must be able to read.
        stop_file: file whose presence stops the trainings.
    """

    client: Any
    parallel_slots: int
    gpus: int
    token: Path
    stop_file: Path


@contextmanager
def open_cluster(options: RunOptions, store: Store, gpus: int, should_stop: Callable[[], bool]) -> Iterator[Cluster]:
    """Start or join a cluster, and check that its workers share our folder.

    Args:
        options: of the experiment.
        store: its root must be the same folder for every worker.
        gpus: of this machine.
        should_stop: polled while waiting for workers.

    Raises:
        Stopped: asked to stop while waiting.
        UsageError: Dask is missing, no scheduler answers, a worker sees another folder or another version of autoseg.
    """
    distributed = _import_dask()
    folder = ExperimentPaths.of(Store(store.root.resolve()), options.dataset).state.parent
    address = options.cluster or "local"
    name = uuid.uuid4().hex
    token, stop_file = folder / f".token-{name}", folder / f".stop-{name}"
    with ExitStack() as stack:
        stack.callback(stop_file.unlink, missing_ok=True)
        stack.callback(token.unlink, missing_ok=True)
        write_text(token, name)
        started, slots = _start(options, address, distributed, gpus)
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
        _wait_for_workers(client, slots if address == "local" else 1, should_stop)
        _check_workers(client, token, name)
        if started is None:
            slots = len(client.scheduler_info(n_workers=-1)["workers"])
        log.info("%d workers share %s", slots, folder.parent)
        shared_gpus = gpus if address == "local" else 0
        yield Cluster(client=client, parallel_slots=slots, gpus=shared_gpus, token=token, stop_file=stop_file)


def train_on_cluster(
    cluster: Cluster,
    store: Store,
    options: RunOptions,
    experiment: ExperimentProgress,
    *,
    should_stop: Callable[[], bool],
) -> RunTrainings:
    """Jobs side by side, one per worker; a job lost with its worker resumes on another, three times at most."""
    logs = experiment.paths.logs.resolve()

    def run_trainings(requests: Iterable[TrainingRequest]) -> Iterator[TrainingResult]:
        jobs, previous_s = {}, {}
        for request in requests:
            job = request.job
            task = ChildTraining(
                command=_command(store, options, request),
                log=logs / f"{job.name.replace(' ', '_')}.log",
                token=cluster.token,
                stop_file=cluster.stop_file,
                device=options.device,
                gpus=cluster.gpus,
            )
            previous_s[job] = experiment.trained_s(job)
            jobs[_submit(cluster, job.name, _train, task)] = job
            log.info("submitted: %s %s%s", options.dataset, job.name, request.describe())
        for future in _completed(cluster, jobs, should_stop):
            result = _result(jobs[future], future)
            trained_s = experiment.trained_s(result.job) - previous_s[result.job]
            yield replace(result, overhead_s=result.overhead_s - trained_s)

    return run_trainings


def run_cases_on_cluster(cluster: Cluster, should_stop: Callable[[], bool]) -> RunCases:
    """``run_cases`` on a cluster, with the same arguments; the number of processes is ignored."""

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
            for done, future in enumerate(_completed(cluster, names, should_stop), start=1):
                name, error = names[future], future.exception()
                value, failure = (
                    (None, f"case {name}: {_explain_loss(error)}") if error is not None else future.result()
                )
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
    """A value, or one sentence on why there is none; an error that the user must correct is not retried."""
    try:
        return function(task), None
    except AutosegError as error:
        return None, str(error)


def _train(task: ChildTraining) -> tuple[str | None, bool, float]:
    """``run_training`` on this worker."""
    return run_training(task, is_cancelled=_is_cancelled, worker_number=_worker_number())


def _is_cancelled() -> bool:
    """Whether this worker's task was cancelled, or its client has disconnected."""
    from distributed import get_worker

    worker = get_worker()
    state = worker.state.tasks.get(worker.get_current_task())
    return state is None or state.state in ("cancelled", "released")


def _worker_number() -> int | None:
    """Number of this worker among those that were started together."""
    from distributed import get_worker

    name = str(get_worker().name)
    return int(name) if name.isdigit() else None


def _read_token(path: str) -> tuple[str, str, str]:
    """The token as this worker reads it, its version of autoseg, and its machine."""
    token = Path(path).read_text() if Path(path).exists() else ""
    return token, autoseg.__version__, os.uname().nodename


# ------------------------------------------------------------------------------------------- on the client


def _import_dask() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise UsageError("--cluster needs Dask; install it with: pip install distributed cryptography") from error
    return distributed


def _queue_class(name: str) -> Any:
    try:
        import dask_jobqueue
    except ImportError as error:
        message = f"--cluster {name} needs dask-jobqueue; install it with: pip install dask-jobqueue"
        raise UsageError(message) from error
    return getattr(dask_jobqueue, QUEUES[name])


def _local_security(distributed: Any) -> Any:
    """Keys of this run, without which no other user of this machine reaches the workers; None where there are none."""
    try:
        return distributed.Security.temporary()
    except ImportError:
        log.warning(
            "any user of this machine can run code as you on the workers of --cluster local while it runs; to encrypt "
            "its connections, stop and run: pip install cryptography"
        )
        return None


def _start(options: RunOptions, address: str, distributed: Any, gpus: int) -> tuple[Any, int]:
    """A new cluster, or None where the address is that of a running one; and its number of workers."""
    host = options.scheduler_host or "127.0.0.1"
    slots = options.workers or (gpus or 1 if address == "local" else 1)
    if address == "local":
        cluster = distributed.LocalCluster(
            n_workers=slots,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            host=host,
            security=_local_security(distributed),
            dashboard_address="127.0.0.1:0",  # this machine only, any port
        )
        return cluster, slots
    if address in QUEUES:
        if options.scheduler_host is not None:
            log.warning("whoever reaches %s can run code as you on the workers; trust its network", host)
        else:
            raise UsageError(
                f"--cluster {address}: workers on other machines must reach the scheduler, which listens to this "
                f"machine only; set --scheduler-host ADDRESS, in a network you trust"
            )
        try:
            cluster = _queue_class(address)(
                processes=1, n_workers=slots, scheduler_options={"host": host, "dashboard_address": "127.0.0.1:0"}
            )
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"--cluster {address}: {error}; describe a job (queue, cores, memory, GPU) in "
                f"~/.config/dask/jobqueue.yaml, see docs/experiments.md"
            ) from error
        return cluster, slots
    if not re.fullmatch(r"(tcp|tls|ucx|ws|wss)://\S+:\d+", address):
        raise UsageError(
            f"--cluster {address}: use local, slurm, pbs, lsf, or a scheduler's address such as tcp://127.0.0.1:8786"
        )
    return None, slots


def _wait_for_workers(client: Any, count: int, should_stop: Callable[[], bool]) -> None:
    """Wait for that many workers, without a time limit, as a queue may hold them."""
    while not should_stop():
        try:
            client.wait_for_workers(count, timeout=1)
        except TimeoutError:
            continue
        return
    raise Stopped


def _check_workers(client: Any, token: Path, name: str) -> None:
    """Raise UsageError where a worker sees another folder or has another version."""
    for worker, (seen, version, machine) in client.run(_read_token, str(token)).items():
        if seen != name:
            raise UsageError(
                f"worker {worker} on {machine} does not see {token.parent}; put the root into a folder that all "
                f"workers share under the same path"
            )
        if version != autoseg.__version__:
            raise UsageError(
                f"worker {worker} on {machine} has autoseg {version}, and this is {autoseg.__version__}; install "
                f"the same on both"
            )


def _command(store: Store, options: RunOptions, request: TrainingRequest) -> tuple[str, ...]:
    """The arguments of ``autoseg_train`` for a job, without a device."""
    training = replace(request.options(options), end_with_parent=True, device="auto")
    return (*command_line(training), "--root", str(store.root.resolve()))


def _submit(cluster: Cluster, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Submit a task under a unique key; one that is lost with its worker is retried."""
    key = f"{name} {uuid.uuid4().hex}"
    return cluster.client.submit(function, *arguments, key=key, retries=RETRIES, pure=False)


def _completed(cluster: Cluster, futures: Iterable[Any], should_stop: Callable[[], bool]) -> Iterator[Any]:
    """Futures in the order in which they end; on a stop request the workers are stopped and waited for."""
    from distributed import wait

    running = set(futures)
    while running:
        if should_stop() and not cluster.stop_file.exists():
            log.info("stopping the workers; each finishes its step and writes a checkpoint")
            write_text(cluster.stop_file, "")
        try:
            ended = wait(running, timeout=POLL_S, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            continue
        running -= ended
        yield from ended


def _result(job: Job, future: Any) -> TrainingResult:
    error = future.exception()
    if error is not None:
        return TrainingResult(job=job, failure=_explain_loss(error))
    failure, stopped, seconds = future.result()
    return TrainingResult(job=job, failure=failure, stopped=stopped, overhead_s=seconds)


def _explain_loss(error: BaseException) -> str:
    if type(error).__name__ == "KilledWorker":
        return f"its worker died {RETRIES + 1} times, most likely out of memory; see the worker's log"
    return f"{type(error).__name__}: {error}"
