"""Which preset and memory budget ``autoseg_plan`` plans for when they are not given."""

from __future__ import annotations

import logging
from typing import Literal, cast

from autoseg.core.errors import PlanError, UsageError
from autoseg.core.records import Plan
from autoseg.core.store import Store, read_record

log = logging.getLogger(__name__)
Preset = Literal["pocket", "standard", "large", "residual_m", "residual_l", "residual_xl"]

DEFAULT_GB = {
    "pocket": 4.0,
    "standard": 8.0,
    "large": 24.0,
    "residual_m": 8.0,
    "residual_l": 24.0,
    "residual_xl": 40.0,
}


def choose_preset(
    store: Store, name: str, preset: str | None, memory_gb: float | None, device: str, *, keep: bool = False
) -> tuple[Preset, float]:
    """The preset and budget, said in one line where they were not given; a dataset planned before keeps its own.

    Raises:
        UsageError: ``--device cuda`` where torch sees no GPU and no ``--memory`` says what to plan for.
    """
    from autoseg.pipeline.machine import gpu_memory_gb  # imports torch, which workers of a plan never need

    before = _planned_before(store, name)
    found_gb = None if device == "cpu" else gpu_memory_gb()
    if device == "cuda" and found_gb is None and memory_gb is None:
        raise UsageError("--device cuda: torch sees no GPU here; say what to plan for with --memory GB")
    if keep and before is not None:  # nothing is planned
        return before.preset, before.memory_gb
    if preset is None and memory_gb is None and device == "auto" and before is not None:
        log.info("planning as before: preset %s for %.3g GB", before.preset, before.memory_gb)
        return before.preset, before.memory_gb
    if preset is None and memory_gb is None and found_gb is None:
        log.info(
            "planning for a machine without GPU: preset pocket (narrow network, small patch); "
            "for a GPU elsewhere say --memory GB, for a full-size network --preset standard"
        )
        return "pocket", DEFAULT_GB["pocket"]
    chosen = cast(Preset, preset or "standard")
    budget = memory_gb or min(DEFAULT_GB[chosen], found_gb or DEFAULT_GB[chosen])
    log.info("planning with preset %s for %.3g GB", chosen, budget)
    return chosen, budget


def _planned_before(store: Store, name: str) -> Plan | None:
    """The plan on disk; None where there is none, or none that can be read (planning says what is wrong with it)."""
    try:
        return read_record(Plan, store.preprocessed(name) / "plan.json", remedy="")
    except PlanError:
        return None
