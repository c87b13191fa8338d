"""Memory of training steps: as planned, and as a real step takes it."""

from __future__ import annotations

from autoseg.core.errors import UsageError
from autoseg.core.records import Plan, VerifiedLine
from autoseg.folds.probing import probe_configuration
from autoseg.networks import network_traits
from autoseg.pipeline.verification.workplace import Workplace
from autoseg.planning import make_plan, price_step
from autoseg.planning.presets import find_preset

UPPER, LOWER = 1.1, 0.6  # of the predicted memory: more runs out, less leaves a third of the device unused
ADVICE = (
    "plan with less, --memory GB; or train with autoseg_train --fit, which resumes in less memory. Please report this "
    "line, because the prediction is wrong on this device."
)


def verify_memory(place: Workplace, *, network: str, budget_gb: float) -> list[VerifiedLine]:
    """Plan a network for a budget on large scans, and run a real training step of each of its configurations.

    Args:
        place: of the verification.
        network: a name in the table of networks.
        budget_gb: memory to plan for.
    """
    name = f"{network} {budget_gb:g} GB"
    try:
        network_traits(network)
    except UsageError as error:
        return [VerifiedLine(name=name, verdict="skipped", result=str(error))]
    plan = plan_network(place, network, budget_gb)
    chosen = [
        key
        for key, configuration in plan.configurations.items()
        if configuration.network.name == network and not configuration.cascade_from and "lowres" not in key
    ]
    if not chosen:
        reasons = [plan.reasons.get(f"{dimensions}d_{network}", "") for dimensions in (3, 2)]
        return [VerifiedLine(name=name, verdict="skipped", result=next(filter(None, reasons), "it is not planned"))]
    clauses, is_good = [], True
    numbers: dict[str, float] = {}
    for key in chosen:
        predicted = plan.memory[key].predicted_gb
        measured = probe_configuration(plan, key, place.device)
        numbers |= {f"{key}_predicted_gb": predicted, f"{key}_measured_gb": round(measured, 3)}
        is_good &= LOWER * predicted <= measured <= UPPER * predicted
        dimensions = plan.configurations[key].dimensions
        clauses.append(f"{dimensions}D {measured:.2f} of {predicted:.2f}")
    return [
        VerifiedLine(
            name=name,
            verdict="ok" if is_good else "failed",
            result=", ".join(clauses),
            advice="" if is_good else ADVICE,
            numbers=numbers,
        )
    ]


def plan_network(place: Workplace, network: str, budget_gb: float) -> Plan:
    """The plan of the large scans for a budget, with the device's preset and a network added unless it is its own."""
    preset, fingerprint = place.plan_large().preset, place.fingerprint()
    added = () if find_preset(preset).network == network else (network,)
    return make_plan(fingerprint, preset=preset, memory_gb=budget_gb, networks=added, cost=price_step)
