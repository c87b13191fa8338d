"""Fingerprint of a dataset from the measurements of its cases."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from autoseg.core.choices import Region
from autoseg.core.records import CaseFacts, Dataset, Fingerprint, IntensityFacts, LabelSummary
from autoseg.core.store import hash_settings
from autoseg.core.text import six_digits
from autoseg.fingerprint.intensities import pool_intensities
from autoseg.fingerprint.lesions import summarize_lesions


def summarize(dataset: Dataset, dataset_key: str, facts: Iterable[CaseFacts]) -> Fingerprint:
    """Summarise the measurements of all cases, sorted by case.

    Args:
        dataset: the measured dataset.
        dataset_key: hash of its raw files.
        facts: per case, in any order.
    """
    cases = tuple(sorted(facts, key=lambda case: case.case))
    foreground: dict[str, IntensityFacts] = {}
    brain: dict[str, IntensityFacts] = {}
    for index, channel in enumerate(dataset.channels):
        measured = [case.channels[index] for case in cases]
        for pooled, regions in (
            (foreground, [facts.foreground for facts in measured if facts.foreground is not None]),
            (brain, [facts.brain for facts in measured if facts.brain.count]),
        ):
            if regions:
                pooled[channel] = pool_intensities(regions)
    return Fingerprint(
        dataset=dataset.name,
        dataset_key=dataset_key,
        channels=dataset.channels,
        labels=dataset.labels,
        regions=dataset.regions,
        ignore_label=dataset.ignore_label,
        lesions=summarize_lesions(cases),
        frequencies=summarize_labels(cases),
        intensities=foreground,
        brain_intensities=brain,
        cases=cases,
    )


def summarize_labels(cases: Sequence[CaseFacts]) -> dict[str, LabelSummary]:
    """Frequency of each label, over the cases that have a reference."""
    labelled = [case for case in cases if case.label_voxels]
    every = sum(math.prod(case.cropped_shape) for case in labelled)
    summaries = {}
    for name in labelled[0].label_voxels if labelled else ():
        voxels = [case.label_voxels[name] for case in labelled]
        lesions = [lesion for case in labelled for lesion in case.lesions if lesion.label == name]
        summaries[name] = LabelSummary(
            cases=sum(n > 0 for n in voxels),
            case_share=six_digits(sum(n > 0 for n in voxels) / len(labelled)),
            voxel_share=six_digits(sum(voxels) / every),
            lesions=len(lesions),
            total_ml=six_digits(sum(lesion.volume_ml for lesion in lesions)),
        )
    return summaries


def find_identical_scans(facts: Iterable[CaseFacts]) -> list[tuple[str, ...]]:
    """Cases of two or more patients whose scans measure alike in everything: one scan under several names."""
    patients: dict[object, dict[str, str]] = {}
    for case in facts:
        measures = (case.shape, case.spacing, tuple(channel.brain for channel in case.channels))
        patients.setdefault(hash_settings(*measures), {}).setdefault(case.group or case.case, case.case)
    return [tuple(cases.values()) for cases in patients.values() if len(cases) > 1]


def crop_to_region(fingerprint: Fingerprint, region: Region) -> Fingerprint:
    """The fingerprint of scans that are cropped to another region than the non-zero one, which it was measured for."""
    if region == "nonzero":
        return fingerprint
    cases = [
        case if case.head is None else case.model_copy(update={"cropped_shape": case.head.shape})
        for case in fingerprint.cases
    ]
    return fingerprint.model_copy(update={"cases": tuple(cases)})


def median_spacing(fingerprint: Fingerprint) -> tuple[float, ...]:
    """Per-axis median spacing in mm."""
    return _medians([case.spacing for case in fingerprint.cases])


def median_cropped_shape(fingerprint: Fingerprint) -> tuple[float, ...]:
    """Per-axis median of the cropped shapes in voxels; halves where the number of cases is even."""
    return _medians([case.cropped_shape for case in fingerprint.cases])


def median_crop_share(fingerprint: Fingerprint) -> float:
    """The median over cases of the crop's share of the scan's volume."""
    shares = [math.prod(case.cropped_shape) / math.prod(case.shape) for case in fingerprint.cases]
    return float(np.median(shares))


def _medians(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(float(n) for n in np.median(np.asarray(rows, dtype=float), axis=0))
