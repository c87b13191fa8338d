"""A plan as a page that a clinician can read: findings, folds, configurations, and the reason of each value."""

from __future__ import annotations

from autoseg.core.records import Fingerprint, Folds, Plan
from autoseg.planning.explain.choices import (
    describe_choices,
    describe_configuration,
    explain_choices,
    explain_configuration,
)
from autoseg.planning.explain.findings import describe_findings, explain_findings
from autoseg.planning.explain.glossary import explain_words
from autoseg.planning.explain.splits import explain_folds


def explain_plan(plan: Plan, fingerprint: Fingerprint | None = None, folds: Folds | None = None) -> str:
    """Plain text, at most 100 columns wide.

    Args:
        plan: of the dataset.
        fingerprint: measurements; None leaves that part out.
        folds: split of the cases; None leaves that part out, and so does a missing fingerprint.
    """
    lines = [f"{plan.dataset}: plan with preset {plan.preset} for {plan.memory_gb:g} GB"]
    if fingerprint is not None:
        lines += explain_findings(fingerprint)
        if folds is not None:
            lines += explain_folds(folds, fingerprint)
    lines += explain_choices(plan)
    for name in plan.configurations:
        lines += explain_configuration(plan, name)
    return "\n".join([*lines, *explain_words()]) + "\n"


__all__ = ["describe_choices", "describe_configuration", "describe_findings", "explain_plan"]
