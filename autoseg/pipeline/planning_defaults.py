"""What ``autoseg_plan`` plans for, as far as it is not said: as before, or as the machine allows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from autoseg.core.errors import PlanError, UsageError
from autoseg.core.records import Plan
from autoseg.core.store import Store, read_record
from autoseg.options import PlanOptions
from autoseg.options.planning import Preset
from autoseg.planning.presets import check_class_weights, find_preset
from autoseg.planning.recipes import read_recipe

log = logging.getLogger(__name__)
Compat = Literal["nnunet"]

DEFAULT_GB = {
    "pocket": 4.0,
    "standard": 8.0,
    "large": 24.0,
    "residual_m": 8.0,
    "residual_l": 24.0,
    "residual_xl": 40.0,
}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to plan for.

    Attributes:
        preset: the table of numbers to begin with.
        memory_gb: GPU memory that patch and batch must fit.
        compat: ``nnunet`` makes every choice as nnU-Net makes it.
        networks: further networks, each with configurations of its own.
        recipes: published systems, each a configuration.
        class_weights: ``frequency`` weighs the classes of every loss by it.
        probe: the device (``cpu``, ``cuda``) to try training steps on, or None.
    """

    preset: Preset
    memory_gb: float
    compat: Compat | None = None
    networks: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    class_weights: Literal["frequency"] | None = None
    probe: str | None = None


def choose_preset(store: Store, options: PlanOptions) -> Wanted:
    """What to plan for, said in one line where it was not given; a dataset planned before keeps its own.

    Raises:
        UsageError: ``--device cuda`` where torch sees no GPU and no ``--memory`` says what to plan for, nnU-Net has
            no such preset, there is no such network, or classes are to be weighed in a plan as nnU-Net makes it.
    """
    # These import torch, which workers of a plan never need.
    from autoseg.core.devices import gpu_memory_gb
    from autoseg.folds.probing import choose_probe
    from autoseg.networks import network_traits

    device, keep, class_weights = options.device, options.keep, options.class_weights
    before = _planned_before(store, options.dataset)
    found_gb = None if device == "cpu" else gpu_memory_gb()
    wanted = _choose(before, options.preset, options.memory_gb, device, found_gb, compat=options.compat, keep=keep)
    kept = before.networks if before is not None and "none" not in options.networks else ()
    added = tuple(network for network in options.networks if network != "none")
    for network in added:
        network_traits(network)  # known and installed, or an error before anything is measured
    tried = choose_probe(options.probe, device, memory_gb=wanted.memory_gb, gpu_gb=found_gb)
    if class_weights is None and before is not None:
        class_weights = before.class_weights
    weighing: Literal["frequency"] | None = "frequency" if class_weights == "frequency" else None
    if not keep:
        check_class_weights(weighing, wanted.compat)
    return replace(
        wanted,
        networks=tuple(dict.fromkeys([*kept, *added])),
        recipes=_choose_recipes(() if before is None else before.recipes, options.recipes),
        class_weights=weighing,
        probe=tried,
    )


def _choose_recipes(before: Sequence[str], asked: Sequence[str]) -> tuple[str, ...]:
    """Those asked for beside those before; ``none`` drops these.

    Raises:
        UsageError: there is no such recipe.
    """
    added = [name for name in asked if name != "none"]
    for name in added:
        read_recipe(name)  # known, or an error before anything is measured
    return tuple(dict.fromkeys([*(() if "none" in asked else before), *added]))


def _choose(
    before: Wanted | None,
    preset: str | None,
    memory_gb: float | None,
    device: str,
    found_gb: float | None,
    *,
    compat: str | None,
    keep: bool,
) -> Wanted:
    if device == "cuda" and found_gb is None and memory_gb is None:
        raise UsageError("--device cuda: torch sees no GPU on this machine; use --memory GB to plan for another")
    if keep and before is not None:  # nothing is planned
        return before
    if before is not None and preset is None and device == "auto":
        compat = compat or before.compat or "none"
        if memory_gb is None and compat == (before.compat or "none"):
            log.info("planning as before: %s for %.3g GB", _describe(before), before.memory_gb)
            return before
        if before.compat is not None:  # its preset has a meaning with and without compatibility
            preset, memory_gb = before.preset, memory_gb or before.memory_gb
    wanted = _begin_anew(preset, memory_gb, found_gb, "nnunet" if compat == "nnunet" else None)
    if before is not None and before.compat and not wanted.compat:
        log.info("no longer nnU-Net-compatible; use --compat nnunet to keep it")
    return wanted


def _begin_anew(preset: str | None, memory_gb: float | None, found_gb: float | None, compat: Compat | None) -> Wanted:
    """What was given, the rest as the machine allows."""
    if preset is None and memory_gb is None and found_gb is None and compat is None:
        log.info(
            "planning for a machine without GPU: preset pocket (narrow network, small patch); "
            "for a GPU elsewhere say --memory GB, for a full-size network --preset standard"
        )
        return Wanted(preset="pocket", memory_gb=DEFAULT_GB["pocket"])
    chosen = cast(Preset, preset or "standard")
    find_preset(chosen, compat)
    budget = memory_gb or min(DEFAULT_GB[chosen], found_gb or DEFAULT_GB[chosen])
    wanted = Wanted(preset=chosen, memory_gb=budget, compat=compat)
    log.info("planning with %s for %.3g GB", _describe(wanted), budget)
    return wanted


def _describe(wanted: Wanted) -> str:
    return f"preset {wanted.preset}" + (" as nnU-Net plans" if wanted.compat == "nnunet" else "")


def _planned_before(store: Store, name: str) -> Wanted | None:
    """What the plan on disk was made for; None where there is none, or none that can be read (planning says why)."""
    try:
        plan = read_record(Plan, store.preprocessed(name) / "plan.json", advice="")
    except PlanError:
        return None
    return Wanted(
        preset=plan.preset,
        memory_gb=plan.memory_gb,
        compat=plan.compat,
        networks=plan.networks,
        recipes=plan.recipes,
        class_weights=plan.class_weights,
    )
