"""Findings in the dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from autoseg.core.records import CaseFacts, Fingerprint, IntensityFacts, LesionPositions, LesionSummary
from autoseg.planning.explain.page import Entry, entry, head
from autoseg.planning.text import count, join, number, percent, volume

AXES = "head-foot, front-back, left-right"
_SIDES = (("foot", "head"), ("front", "back"), ("right", "left"))


def explain_findings(fingerprint: Fingerprint) -> list[str]:
    """Cases, scans, labels and lesions, as measured."""
    return head("What was found") + [line for found in describe_findings(fingerprint) for line in entry(*found)]


def describe_findings(fingerprint: Fingerprint) -> list[Entry]:
    """Cases, scans, labels and lesions, as measured."""
    labels = "; ".join(
        f"{name} in {percent(found.case_share)} of the labelled cases, {percent(found.voxel_share)} of their voxels"
        for name, found in fingerprint.frequencies.items()
    )
    return [
        ("Cases", _describe_cases(fingerprint.cases), ""),
        ("Sites", _describe_sites(fingerprint.cases), ""),
        ("Channels", ", ".join(fingerprint.channels), ""),
        ("Scan size", _describe_range([case.shape for case in fingerprint.cases], "voxels"), ""),
        ("Voxel spacing", _describe_range([case.spacing for case in fingerprint.cases], "mm"), ""),
        *(("Intensities", _describe_intensities(fingerprint, channel), "") for channel in fingerprint.channels),
        ("Labels", labels or "none", ""),
        *_describe_lesions(fingerprint.lesions),
    ]


def _describe_lesions(lesions: LesionSummary) -> list[Entry]:
    empty = f"{count(lesions.empty_cases, 'case')} without lesions"
    if not lesions.count:
        return [("Lesions", f"none; {empty}", "")]
    some = count(lesions.cases - lesions.empty_cases, "case")
    amount = (
        f"{lesions.count} in {some}, median {lesions.per_case:g} per case, at most {lesions.most_per_case}; {empty}"
    )
    volumes = (
        f"median {volume(lesions.median_ml)}; 50% from {volume(lesions.quartile_1_ml)} to "
        f"{volume(lesions.quartile_3_ml)}, 90% from {volume(lesions.percentile_05_ml)} to "
        f"{volume(lesions.percentile_95_ml)}, all from {volume(lesions.smallest_ml)} to {volume(lesions.largest_ml)}; "
        f"{percent(lesions.small_share)} below 0.1 ml"
    )
    load = f"median {volume(lesions.per_case_ml)} in cases with lesions; {volume(lesions.total_ml)} in total"
    found = [("Lesions", amount, ""), ("Volumes", volumes, ""), ("Lesion load", load, "")]
    return found if lesions.positions is None else [*found, ("Location", _describe_positions(lesions.positions), "")]


def _describe_positions(where: LesionPositions) -> str:
    on_average = ", ".join(
        f"{middle:.0%} of the way from {first} to {last} (SD {spread:.0%})"
        for middle, spread, (first, last) in zip(where.centre, where.spread, _SIDES, strict=True)
    )
    return (
        f"{percent(where.left_share)} of the lesions in the patient's left half of the scan, "
        f"{percent(where.right_share)} in the right half ({percent(where.left_volume_share)} and "
        f"{percent(where.right_volume_share)} of the volume), by the file headers; on average {on_average}"
    )


def _describe_cases(cases: Sequence[CaseFacts]) -> str:
    patients = count(len({case.group or case.case for case in cases}), "patient")
    if all(case.group is None for case in cases):
        patients = f"{patients} (no patients are named, so each case counts as one)"
    labelled = sum(bool(case.label_voxels) for case in cases)
    with_label = "all with a label" if labelled == len(cases) else f"{labelled} with a label"
    return f"{len(cases)}, {with_label}, of {patients}"


def _describe_sites(cases: Sequence[CaseFacts]) -> str:
    found = Counter(case.site for case in cases)
    unknown = found.pop(None, 0)
    named = [f"{site} ({count(number, 'case')})" for site, number in sorted(found.items(), key=lambda s: str(s[0]))]
    return ", ".join([*named, *([f"unknown for {count(unknown, 'case')}"] if unknown else [])])


def _describe_range(rows: Sequence[Sequence[float]], unit: str) -> str:
    """The median per axis and, where the rows differ, the smallest and the largest."""
    values = np.asarray(rows, dtype=float)
    middle, least, most = np.median(values, axis=0), values.min(axis=0), values.max(axis=0)
    if np.array_equal(least, most):
        return f"{join(list(middle))} {unit} ({AXES}) in every case"
    return f"median {join(list(middle))} {unit} ({AXES}); per axis from {join(list(least))} to {join(list(most))}"


def _describe_intensities(fingerprint: Fingerprint, channel: str) -> str:
    regions = {
        "in the non-zero region": fingerprint.brain_intensities.get(channel),
        "inside the labels": fingerprint.intensities.get(channel),
    }
    parts = [f"{_spread(facts)} {where}" for where, facts in regions.items() if facts is not None]
    return f"{channel}: {'; '.join(parts) or 'none'}"


def _spread(facts: IntensityFacts) -> str:
    return (
        f"median {number(facts.median)} (99% from {number(facts.percentile_00_5)} to {number(facts.percentile_99_5)})"
    )
