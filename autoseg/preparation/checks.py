"""A plan that a person may have edited, against what the record alone cannot know: the dataset, networks and losses."""

from __future__ import annotations

from pathlib import Path

from autoseg.core.errors import AutosegError, PlanError
from autoseg.core.records import Dataset, Plan
from autoseg.core.store import check_name
from autoseg.losses import build_loss
from autoseg.networks import check_sizes, fit_settings


def check_plan(plan: Plan, dataset: Dataset, path: Path) -> None:
    """Everything that would otherwise be found at the beginning of a training.

    Args:
        path: of the plan, for messages.

    Raises:
        PlanError: it is for other channels or labels than the dataset has, or a configuration's name, network or loss
            cannot be; the message names the key.
    """
    for key in ("channels", "labels", "regions", "ignore_label"):
        planned, found = getattr(plan, key), getattr(dataset, key)
        if planned != found:
            raise PlanError(
                f"{path}: '{key}' is {planned!r}, but the dataset has {found!r}; change dataset.json if that is wrong, "
                f"or plan again with: autoseg_plan -d {dataset.name} --replace"
            )
    for name in plan.configurations:
        check_configuration(plan, name, path)


def check_configuration(plan: Plan, name: str, path: Path) -> None:
    """One configuration's name, network with its patch and tile, and loss.

    Raises:
        PlanError: one of them cannot be; the message names the key.
    """
    configuration = plan.configurations[name]
    key = f"configurations.{name}"
    try:
        check_name(name, "configuration")
        key = f"configurations.{name}.network"
        fit_settings(configuration.network, dimensions=configuration.dimensions, patch=configuration.patch_size)
        check_sizes(configuration)
        key = f"configurations.{name}.loss"
        build_loss(
            configuration.loss,
            regions=tuple(plan.regions.values()),
            ignore_label=plan.ignore_label,
            outputs=len(plan.outputs.names),
        )
    except AutosegError as error:
        raise PlanError(f"{path}: '{key}': {error}") from error
