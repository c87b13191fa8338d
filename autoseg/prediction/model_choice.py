"""Choice of the model and of the scans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoseg.core.errors import UsageError
from autoseg.core.records import Case
from autoseg.core.store import Store, subfolders
from autoseg.model import trained_folds
from autoseg.prediction.ensembles import BEST_RECORD


def choose_model(store: Store, dataset: str | None, configuration: str | None) -> Path:
    """The best model of an experiment where no configuration is said, else the only one that fits what was said.

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
        raise UsageError(f"no model of that name is trained in {store.results_root}; there are: {choices}")
    unfinished = [str(p.parent) for p in store.results_root.glob("*/*/fold_*/checkpoint.pt")]
    hint = (
        f"finish the training begun in {unfinished[0]}"
        if unfinished
        else "train one with: autoseg_train -d NAME -c 3d -f 0"
    )
    raise UsageError(f"no model is trained in {store.results_root}; {hint}")


def choose_part(
    cases: Sequence[Case], failures: dict[str, str], parts: Sequence[tuple[int, int]]
) -> tuple[list[Case], dict[str, str]]:
    """The cases, and those that failed already, of one part; parts are disjoint, and together they are all.

    Args:
        parts: (number, count) from 1; each further one is a part of the part before.
    """
    names = sorted({case.id for case in cases} | set(failures))
    for number, count in parts:
        names = names[number - 1 :: count]
    mine = set(names)
    return (
        [case for case in cases if case.id in mine],
        {name: sentence for name, sentence in failures.items() if name in mine},
    )


def describe_expected(channels: Sequence[str]) -> str:
    """The files that a folder of scans should hold."""
    if len(channels) == 1:
        return f"expected <case>.nii.gz or <case>_0000.nii.gz files ({channels[0]})"
    numbered = ", ".join(f"_{number:04d} = {name}" for number, name in enumerate(channels))
    return (
        f"expected <case>_0000.nii.gz files ({numbered}), or a folder per case with {', '.join(channels)} in file names"
    )
