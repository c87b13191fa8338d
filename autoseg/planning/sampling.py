"""Rules 12-13: origin of training patches, and their augmentation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from autoseg.core.records import AugmentationSettings, CaseFacts, ChannelFacts, Fingerprint, SamplingSettings
from autoseg.core.text import join_names
from autoseg.fingerprint import SMALL_LESION_ML
from autoseg.planning.mirroring import Mirroring
from autoseg.planning.spacing import COARSE_RATIO
from autoseg.planning.text import count, join_words, percent

FORCED_SHARE = 0.33
SMALL_SHARE = 0.1
SEVERAL = 2
SUBSTITUTION_SHARE = 0.2  # of the samples, beside those of the cases that are so
EMPTY_SHARE = 0.25  # our judgement: enough to learn what a head without lesions looks like


def plan_sampling(fingerprint: Fingerprint, *, by_lesion: bool = True) -> tuple[SamplingSettings, str]:
    """Shares of a batch that are centred on labelled voxels or lesions, or come from empty cases; and why.

    Args:
        by_lesion: whether rules 12b and 12c, which are not nnU-Net's, may apply.
    """
    lesions = fingerprint.lesions
    counted = (
        f"{count(lesions.count, 'lesion')}, a median of {lesions.per_case:g} per case, "
        f"{percent(lesions.small_share)} of them below {SMALL_LESION_ML:g} ml; {lesions.empty_cases} of "
        f"{count(lesions.cases, 'case')} without lesions."
    )
    empty_share, why_empty = _plan_empty_cases(fingerprint) if by_lesion else (None, "")
    # 12a. A third of each batch shows a labelled voxel. Source: nnU-Net, doi:10.1038/s41592-020-01008-z.
    # 12b. A voxel is drawn in proportion to its lesion's volume, so small lesions next to large ones are hardly
    #      seen; where they are common, half of that third is drawn lesion by lesion.
    if by_lesion and lesions.small_share >= SMALL_SHARE and lesions.per_case >= SEVERAL:
        half = FORCED_SHARE / 2
        reason = (
            f"{counted} Small lesions are common, so {half:.1%} of each batch is centred on lesions, each with the "
            f"same probability, and {half:.1%} on labelled voxels, where large lesions dominate.{why_empty}"
        )
        return SamplingSettings(foreground_share=half, lesion_share=half, empty_case_share=empty_share), reason
    cause = "Few small lesions compete with large ones, so " if by_lesion else ""
    sentence = f"{cause}{FORCED_SHARE:.0%} of each batch is centred on labelled voxels, as in nnU-Net."
    reason = f"{counted} {sentence}{why_empty}"
    return SamplingSettings(foreground_share=FORCED_SHARE, lesion_share=0.0, empty_case_share=empty_share), reason


def _plan_empty_cases(fingerprint: Fingerprint) -> tuple[float | None, str]:
    """A quota for cases without lesions, or None to take them as they come."""
    lesions = fingerprint.lesions
    share = lesions.empty_cases / lesions.cases if lesions.cases else 0.0
    # 12c. A sample of a case without lesions cannot be centred on one. Where such cases are many, they get a quota,
    #      among the samples that are centred on nothing; where they are few, they are drawn as any other.
    if share <= EMPTY_SHARE or lesions.empty_cases == lesions.cases:
        return None, ""
    return EMPTY_SHARE, (
        f" Cases without lesions would be {share:.0%} of all samples, none of which could be centred on a lesion, so "
        f"their share is limited to {EMPTY_SHARE:.0%}."
    )


def plan_augmentation(
    patch: Sequence[int], mirroring: Mirroring, *, light: bool = False
) -> tuple[AugmentationSettings, str]:
    """Rotations that the patch's shape allows; the other changes are the same for all patches.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z, supplementary note on data augmentation.
    """
    axes = len(patch)
    # 13a. A first axis that is short against the others is coarse: rotating it would smear slices into each other.
    in_plane = axes == 3 and max(patch) / patch[0] > COARSE_RATIO
    length = f"the first axis of the patch has {patch[0]} voxels, the longest {max(patch)}"
    degrees, reason = 30.0, f" about every axis, as {length}"
    if in_plane:
        degrees, reason = 180.0, f" within the plane only, as {length}"
    elif axes == 2:
        ratio = max(patch) / min(patch)
        degrees, shape = (15.0, "elongated") if ratio > 1.5 else (180.0, "nearly square")
        reason = f", as the patch is {shape} ({max(patch)} x {min(patch)} voxels)"
    settings = AugmentationSettings(
        rotation_probability=0.2,
        rotation_degrees=(-degrees, degrees),
        in_plane=in_plane,
        scale_probability=0.2,
        mirror_axes=mirroring.axes,
    )
    if not light:
        return settings, f"Rotations of up to {degrees:g} degrees{reason}. {mirroring.reason}"
    # 13b. Changes that protect a thousand epochs from overfitting only slow a short training down.
    degrees = min(degrees, 15.0)
    settings = settings.model_copy(
        update={
            "rotation_degrees": (-degrees, degrees),
            "scale": (0.85, 1.25),
            "noise_probability": 0.05,
            "blur_probability": 0.05,
            "brightness_probability": 0.1,
            "contrast_probability": 0.1,
            "low_resolution_probability": 0.05,
            "inverted_gamma_probability": 0.0,
            "gamma_probability": 0.1,
        }
    )
    return settings, (
        f"Rotations of up to {degrees:g} degrees, and changes of intensity about a third as often as in nnU-Net: a "
        f"short training underfits long before it overfits. {mirroring.reason}"
    )


def add_substitutions(fingerprint: Fingerprint, settings: AugmentationSettings) -> tuple[AugmentationSettings, str]:
    """13d. Copies of one channel in the place of another, where some cases have them; and why, or nothing.

    Where a sequence was not scanned, archives put another one in its place. Few such cases teach nothing about the next
    one, so more are made. Which of equal channels was scanned is told by the contrast of the labels: it is that of the
    same channel in the other cases.
    """
    groups: dict[tuple[int, ...], list[CaseFacts]] = {}
    typical = {}
    for number in range(len(fingerprint.channels)):
        unrepeated = [case for case in fingerprint.cases if case.channels.count(case.channels[number]) == 1]
        typical[number] = _median_contrast(unrepeated, number)
    for case in fingerprint.cases:
        for group in _find_repeats(case):
            groups.setdefault(group, []).append(case)
    patterns, named = set(), set()
    for group, cases in groups.items():
        contrast = _median_contrast(cases, group[0])
        distances = {n: abs(contrast - typical[n]) for n in group if math.isfinite(contrast - typical[n])}
        if distances:
            source = min(distances, key=lambda n: distances[n])
            patterns.add(tuple(source if n in group else n for n in typical))
            named |= {case.case for case in cases}
    if not patterns:
        return settings, ""
    substituted = [
        f"{fingerprint.channels[source]} for {fingerprint.channels[channel]}"
        for pattern in sorted(patterns)
        for channel, source in enumerate(pattern)
        if channel != source
    ]
    reason = (
        f" In {count(len(named), 'case')} one channel is a copy of another ({join_names(sorted(named), limit=3)}), "
        f"so {percent(SUBSTITUTION_SHARE)} of all samples are made like that: {join_words(sorted(set(substituted)))}."
    )
    update = {"substitution_probability": SUBSTITUTION_SHARE, "substitutions": tuple(sorted(patterns))}
    return settings.model_copy(update=update), reason


def _find_repeats(case: CaseFacts) -> list[tuple[int, ...]]:
    """Groups of channels that measure alike in everything."""
    groups: dict[ChannelFacts, tuple[int, ...]] = {}
    for number, channel in enumerate(case.channels):
        groups[channel] = (*groups.get(channel, ()), number)
    return [group for group in groups.values() if len(group) > 1]


def _median_contrast(cases: Sequence[CaseFacts], channel: int) -> float:
    """Median over cases of the labelled voxels' mean above that of all, in standard deviations; nan without any."""
    measured = [case.channels[channel] for case in cases]
    return float(
        np.median(
            [
                (facts.foreground.mean - facts.brain.mean) / facts.brain.std
                for facts in measured
                if facts.foreground is not None and facts.brain.std
            ]
            or [math.nan]
        )
    )
