"""Model of a prediction: the requested one, the best of an experiment, or the only one."""

from __future__ import annotations

from pathlib import Path

from autoseg.core.errors import UsageError
from autoseg.core.store import Store, subfolders
from autoseg.model import trained_folds
from autoseg.prediction.ensembles import BEST_RECORD


def choose_model(store: Store, dataset: str | None, configuration: str | None) -> Path:
    """Folder of the only model that fits; without a configuration, the best of an experiment comes first.

    Raises:
        UsageError: none or several fit; the message lists the choices.
    """
    trained = [
        (name, kind)
        for name in subfolders(store.results_root)
        for kind in subfolders(store.results_root / name)
        if trained_folds(store.results(name, kind)) or (store.results(name, kind) / BEST_RECORD).exists()
    ]
    fitting = [(n, c) for n, c in trained if dataset in (None, n) and configuration in (None, c)]
    if len({name for name, _ in fitting}) == 1:
        winners = [(n, c) for n, c in fitting if (store.results(n, c) / BEST_RECORD).exists()]
        fitting = winners or fitting
    if len(fitting) == 1:
        return store.results(*fitting[0])
    choices = "; ".join(f"-d {n} -c {c}" for n, c in (fitting or trained))
    if fitting:
        raise UsageError(f"several models are trained; choose one with: {choices}")
    if trained:
        raise UsageError(f"no such model in {store.results_root}; choose from: {choices}")
    unfinished = [str(p.parent) for p in store.results_root.glob("*/*/fold_*/checkpoint.pt")]
    hint = (
        f"finish the training in {unfinished[0]}" if unfinished else "train one with: autoseg_train -d NAME -c 3d -f 0"
    )
    raise UsageError(f"no model is trained in {store.results_root}; {hint}")
