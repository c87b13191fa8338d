"""When memory runs out while training: say what helps, or go on with the same training in less memory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from autoseg.core.errors import MemoryShortageError
from autoseg.core.parallel import Progress
from autoseg.core.records import Plan, PreparedCase
from autoseg.folds.fold_run import FoldRun
from autoseg.model import PLAN, load_plan

log = logging.getLogger(__name__)

CHECKPOINTING = "checkpointing"
SMALLER = 0.8  # of the planned memory, as a first suggestion


def fit_within_memory(
    run: FoldRun,
    prepared: dict[str, PreparedCase],
    *,
    fit: bool,
    should_stop: Callable[[], bool],
    progress: Progress,
) -> None:
    """Train a fold; with ``fit``, each time memory runs out, go on from the last step in less.

    Raises:
        MemoryShortageError: memory ran out; the message says what to type.
    """
    while True:
        try:
            return run.fit(prepared, should_stop, progress)
        except MemoryShortageError as error:
            how = run.relieve() if fit else None
            if how is None:
                raise MemoryShortageError(f"{error}; {_memory_advice(run, tried=fit)}") from error
            log.warning("%s; from now on %s", error, how)


def inherit_memory_savings(plan: Plan, folder: Path, name: str) -> Plan:
    """The plan with what an earlier ``--fit`` gave up in this model, so that a resume or another fold goes on so.

    Args:
        plan: of the dataset.
        folder: of the model.
        name: of the configuration.
    """
    if not (folder / PLAN).exists():
        return plan
    trained = load_plan(folder).configurations.get(name)
    own = plan.configurations[name]
    if trained is None or trained.batch_size != own.batch_size or trained.network.name != own.network.name:
        return plan  # another plan, which is refused elsewhere
    options, parts = dict(own.network.options), own.training.accumulation
    if trained.network.options.get(CHECKPOINTING, False):
        options[CHECKPOINTING] = True
    parts = max(parts, trained.training.accumulation)
    if options == own.network.options and parts == own.training.accumulation:
        return plan
    log.info("%s saves memory as an earlier --fit chose; delete %s to begin without", name, folder)
    network = own.network.model_copy(update={"options": options})
    training = own.training.model_copy(update={"accumulation": parts})
    saving = own.model_copy(update={"network": network, "training": training})
    return plan.model_copy(update={"configurations": {**plan.configurations, name: saving}})


def _memory_advice(run: FoldRun, *, tried: bool) -> str:
    plan, less = run.plan, run.plan.memory_gb * SMALLER
    smaller = f"plan for less: autoseg_plan -d {plan.dataset} --preset {plan.preset} --memory {less:.2g}"
    if tried:
        return f"--fit has given up all that leaves the training as it is, so {smaller}"
    return f"go on in less memory by adding --fit to this command, or {smaller}"
