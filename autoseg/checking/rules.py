"""Rules of suspicion: each compares the signs of all cases and yields what looks like a fault.

A rule's threshold is a strength of 1. The thresholds lie above all but a few of the cases of real datasets
(docs/check.md counts them).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.checking.compare import (
    LEAST_CASES,
    find_exchanged,
    find_reversed,
    fit_heads,
    fit_positions,
    isolate,
    pair_heads,
)
from autoseg.checking.measures import MIRRORS, MOST_VALUES, CaseSigns
from autoseg.core.records import Dataset, Suspicion
from autoseg.core.text import join_names
from autoseg.fingerprint import find_identical_scans

LIKELY = 2.0  # strength from which a suspicion is likely
STRONGEST = 100.0
OUTSIDE = 0.1  # share of the mask
CUT = 0.5  # share of the mask's largest section
SPACING = np.log(1.5)
HEAD = np.log(1.35)
LEVEL = np.log(8.0)  # of median and spread of intensities
PEAK = np.log(4.0)  # of the maximum over the 99.5 % percentile
TURNED = 0.1  # of correlation
MOVED = 0.15  # of correlation
FIXED = 0.5  # median correlation from which all masks lie at one place
ALIKE = 0.995  # correlation of two heads
OFTEN = 0.95  # share of the other cases that have a label
LEAST_LABELLED = 10  # cases, so that one without a label is rare


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


KINDS: Mapping[str, tuple[str, str]] = {  # title, what is compared
    "unreadable": ("cannot be read", "Every file is read and checked as autoseg_plan does."),
    "image-as-mask": (
        "mask is an image",
        "A label file holds the voxels of a channel, or as many values as an image; a channel holds a mask.",
    ),
    "mask-values": ("mask values", "Values in the label file that dataset.json does not name, or 255 for 1."),
    "outside": ("mask outside the head", f"More than {_percent(OUTSIDE)} of the mask lies outside the head."),
    "mirrored-mask": (
        "mask mirrored",
        "Mirrored, the mask fits better: its place in the head, or the intensities below it, are as in the others.",
    ),
    "mirrored-scan": (
        "scan mirrored",
        "Mirrored, the head resembles the mean of the other heads more. Two halves of a healthy brain are too alike "
        "for this test; it finds left and right exchanged where the cases differ in it.",
    ),
    "spacing": ("spacing", "No two other cases have voxels of about this size."),
    "head-size": ("head size", "No two other cases have a head of about this size."),
    "channels-identical": ("identical channels", "Two channels hold the same voxels."),
    "channels-swapped": (
        "channels swapped",
        "Two channels differ in the opposite direction than in the other cases: intensities of the head and below the "
        "mask, and likeness to the mean channels.",
    ),
    "same-scan": ("same scan", "Scans of two patients are identical, or nearly so."),
    "same-mask": ("same mask", "Masks of two patients are identical."),
    "intensity": ("intensities", "No two other cases have about these intensities, or such a maximum."),
    "cut": (
        "lesion cut off",
        "The mask ends at the border of the scan with a large section, so that part of it may be missing.",
    ),
    "label-missing": ("label missing", f"The mask lacks a label that over {_percent(OFTEN)} of the others have."),
}
SIDES = ("upside down", "back to front", "left-right")


@dataclass(frozen=True, kw_only=True)
class _Field:
    """Cases that the rules compare.

    Attributes:
        dataset: without its cases.
        every: all of them.
        read: those that can be read.
    """

    dataset: Dataset
    every: Sequence[CaseSigns]
    read: Sequence[CaseSigns]


def find_suspicions(dataset: Dataset, cases: Sequence[CaseSigns]) -> tuple[Suspicion, ...]:
    """All suspicions, ranked: by certainty, then by strength.

    Args:
        dataset: the checked dataset.
        cases: signs of all its cases.
    """
    read = [case for case in cases if case.facts is not None]
    field = _Field(dataset=dataset, every=cases, read=read)
    rules = [*ALONE, *(COMPARING if len(read) >= LEAST_CASES else ())]
    found = [suspicion for rule in rules for suspicion in rule(field)]
    order = {"certain": 0, "likely": 1, "possible": 2}
    return tuple(sorted(found, key=lambda s: (order[s.certainty], -s.strength, s.case, s.kind)))


def _certain(case: str, kind: str, title: str, sentence: str, cases: Sequence[str] = ()) -> Suspicion:
    return Suspicion(
        case=case, kind=kind, certainty="certain", strength=1.0, title=title, sentence=sentence, cases=tuple(cases)
    )


def _graded(case: str, kind: str, strength: float, title: str, sentence: str, cases: Sequence[str] = ()) -> Suspicion:
    return Suspicion(
        case=case,
        kind=kind,
        certainty="likely" if strength >= LIKELY else "possible",
        strength=round(min(float(strength), STRONGEST), 3),
        title=title,
        sentence=sentence,
        cases=tuple(cases),
    )


def _check_files(field: _Field) -> Iterator[Suspicion]:
    """Cases that cannot be read, with the reason as far as the label file shows it."""
    allowed = {float(value) for value in field.dataset.label_values or field.dataset.labels.values()}
    for case in field.every:
        sentence = case.problem.removeprefix(f"case {case.case}: ")
        if case.copied_channel:
            yield _certain(
                case.case,
                "image-as-mask",
                f"mask is a copy of channel {case.copied_channel}",
                f"The label file holds the voxels of channel {case.copied_channel}.",
            )
        elif case.problem and len(case.values) == MOST_VALUES:
            title = "mask holds the many values of an image"
            yield _certain(case.case, "image-as-mask", title, _as_sentence(sentence))
        elif case.problem and case.head_ml and set(case.values) - allowed and "grid" not in sentence:
            yield _certain(case.case, "mask-values", f"mask holds {_show_values(case.values)}", _as_sentence(sentence))
        elif case.problem:
            yield _certain(case.case, "unreadable", "cannot be read", _as_sentence(sentence))


def _check_channels(field: _Field) -> Iterator[Suspicion]:
    for case in field.every:
        if case.flat_channel:
            title = f"channel {case.flat_channel} is a mask"
            sentence = f"Channel {case.flat_channel} has no more values than a mask."
            yield _certain(case.case, "image-as-mask", title, sentence)
        if case.repeated_channels:
            pairs = join_names(case.repeated_channels)
            title = f"identical channels: {pairs}"
            yield _certain(case.case, "channels-identical", title, f"These channels hold the same voxels: {pairs}.")


def _check_values(field: _Field) -> Iterator[Suspicion]:
    """Masks that are read, but on another scale than most."""
    allowed = {float(value) for value in field.dataset.label_values or field.dataset.labels.values()}
    allowed |= set() if field.dataset.ignore_label is None else {float(field.dataset.ignore_label)}
    labelled = [case for case in field.read if case.values]
    scaled = [case for case in labelled if set(case.values) - allowed]
    if 2 * len(scaled) > len(labelled):
        return  # a habit of the dataset
    for case in scaled:
        shown = _show_values(case.values)
        yield _certain(
            case.case,
            "mask-values",
            f"mask holds {shown}",
            f"The mask holds {shown} on disk, the other masks {_show_values(sorted(allowed - {0}))}; autoseg reads it "
            f"as meant, other programs may not.",
        )


def _check_outside(field: _Field) -> Iterator[Suspicion]:
    for case in field.read:
        if case.outside_share > OUTSIDE:
            yield _graded(
                case.case,
                "outside",
                case.outside_share / OUTSIDE,
                f"{_percent(case.outside_share)} of the mask is outside the head",
                f"{_percent(case.outside_share)} of the mask lies outside the head, in the other cases at most "
                f"{_percent(_most_other(field, case, 'outside_share'))}.",
            )


def _check_cut(field: _Field) -> Iterator[Suspicion]:
    for case in field.read:
        usual = np.percentile([found.cut_share for found in field.read], 90) if len(field.read) > 1 else 0
        strength = case.cut_share / max(CUT, float(usual))
        if strength > 1 or case.cut_share == 1:
            yield _graded(
                case.case,
                "cut",
                strength,
                "mask is cut off by the scan's border",
                f"At a border of the scan the mask has {_percent(case.cut_share)} of its largest section along that "
                f"axis; in nine of ten cases at most {_percent(usual)}.",
            )


def _check_repeats(field: _Field) -> Iterator[Suspicion]:
    """Scans and masks of two patients that are the same."""
    named: set[frozenset[str]] = set()
    for cases in find_identical_scans([case.facts for case in field.read if case.facts is not None]):
        first, *others = cases
        named |= {frozenset((first, twin)) for twin in others}
        yield _certain(
            first,
            "same-scan",
            f"identical to {join_names(others, limit=2)}",
            f"Its scan is identical to that of {join_names(others)}, of another patient; one may be trained on and the "
            f"other held out.",
            others,
        )
    masks: dict[str, dict[str, str]] = {}
    for case in field.read:
        if case.mask_hash:
            masks.setdefault(case.mask_hash, {}).setdefault(case.group or case.case, case.case)
    for patients in masks.values():
        first, *others = patients.values()
        if others and frozenset((first, others[0])) not in named:
            sentence = f"Its mask is identical to that of {join_names(others)}, of another patient."
            yield _certain(first, "same-mask", f"mask identical to {join_names(others, limit=2)}", sentence, others)


def _check_likeness(field: _Field) -> Iterator[Suspicion]:
    """Scans of two patients that are nearly the same."""
    alike = pair_heads(field.read)
    for row, column in np.argwhere(alike > ALIKE):
        first, second = field.read[row], field.read[column]
        measures = [case.facts.channels for case in (first, second) if case.facts is not None]
        if (first.group or first.case) != (second.group or second.case) and measures[0] != measures[1]:
            yield _graded(
                first.case,
                "same-scan",
                1 + (alike[row, column] - ALIKE) / (1 - ALIKE),
                f"nearly identical to {second.case}",
                f"Its head and that of {second.case}, of another patient, correlate by {alike[row, column]:.4f}.",
                [second.case],
            )


def _check_mirrors(field: _Field) -> Iterator[Suspicion]:
    """Scans that resemble the others more when mirrored, and files whose channels are exchanged."""
    fits = fit_heads(field.read)
    for case, fit in zip(field.read, fits, strict=True):
        best = int(np.argmax(fit.mirrored))
        gain = fit.mirrored[best] - fit.upright
        if gain > TURNED:
            side = _name_mirror(best + 1)
            yield _graded(
                case.case,
                "mirrored-scan",
                gain / TURNED,
                f"scan seems mirrored {side}",
                f"The head correlates by {fit.upright:.2f} with the mean of the others, and by "
                f"{fit.mirrored[best]:.2f} when it is mirrored {side}.",
            )
    names = field.dataset.channels
    for (i, j), strengths in find_exchanged(field.read, fits).items():
        for case, strength in zip(field.read, strengths, strict=True):
            if strength > 1:
                yield _graded(
                    case.case,
                    "channels-swapped",
                    strength,
                    f"{names[i]} and {names[j]} seem swapped",
                    f"By its intensities, channel {names[i]} looks as {names[j]} does in the other cases, and "
                    f"{names[j]} as {names[i]} does.",
                )


def _check_places(field: _Field) -> Iterator[Suspicion]:
    """Masks that fit better when mirrored: by their place where masks lie alike, else by the intensities below."""
    masked = [case for case in field.read if case.positions is not None]
    if len(masked) < LEAST_CASES:
        return
    places = fit_positions(masked)
    if np.median(places[:, 0]) > FIXED:
        strengths = (places - places[:, :1]) / MOVED
    else:
        below = np.stack([case.contrasts for case in masked if case.contrasts is not None])
        mirrored = [find_reversed(below[:, 0] - below[:, number]) for number in range(1, len(MIRRORS))]
        strengths = np.column_stack([np.zeros(len(masked)), *mirrored])
    for case, place, strength in zip(masked, places, strengths, strict=True):
        best = int(np.argmax(strength))
        if strength[best] > 1:
            side = _name_mirror(best)
            yield _graded(
                case.case,
                "mirrored-mask",
                float(strength[best]),
                f"mask seems mirrored {side}",
                f"The mask's place correlates by {place[0]:.2f} with that of the others, and by {place[best]:.2f} when "
                f"it is mirrored {side}."
                if np.median(places[:, 0]) > FIXED
                else f"What is usual below the masks of the others lies here below the mask mirrored {side}.",
            )


def _check_sizes(field: _Field) -> Iterator[Suspicion]:
    facts = [case.facts for case in field.read if case.facts is not None]
    spacings = np.array([case.spacing for case in facts])
    thick = np.array([case.shape for case in facts]) > 1  # the thickness of a single slice is often not stated
    heads = np.array([case.head_mm for case in field.read])
    for kind, measured, threshold in (("spacing", spacings, SPACING), ("head-size", heads, HEAD)):
        strengths = isolate(np.log(np.where(thick, measured, 1))) / threshold
        median = " x ".join(f"{mm:.3g}" for mm in np.median(measured, axis=0))
        for case, row, strength in zip(field.read, measured, strengths, strict=True):
            if strength > 1:
                size = " x ".join(f"{mm:.3g}" for mm in row)
                what = "voxels" if kind == "spacing" else "head"
                yield _graded(
                    case.case,
                    kind,
                    strength,
                    f"{what} of {size} mm",
                    f"{size} mm (z,y,x); the median of all cases is {median} mm, and no two others are near.",
                )


def _check_intensities(field: _Field) -> Iterator[Suspicion]:
    facts = [case.facts for case in field.read if case.facts is not None]
    for number, name in enumerate(field.dataset.channels):
        brains = [case.channels[number].brain for case in facts]
        tiny = 1e-6
        levels = np.array([[abs(b.median) + tiny, b.std + tiny] for b in brains])
        peaks = np.array([(b.maximum + tiny) / max(b.percentile_99_5, tiny) for b in brains])
        far = isolate(np.log(levels)) / LEVEL
        high = isolate(np.log(np.maximum(peaks, 1))) / PEAK
        for case, brain, level, peak in zip(field.read, brains, far, high, strict=True):
            if max(level, peak) > 1:
                medians = np.median(levels, axis=0)
                yield _graded(
                    case.case,
                    "intensity",
                    max(level, peak),
                    f"{name}: " + ("spikes" if peak > level else "intensities on another scale"),
                    f"{name} has median {brain.median:.4g}, standard deviation {brain.std:.4g}, 99.5 % percentile "
                    f"{brain.percentile_99_5:.4g} and maximum {brain.maximum:.4g}; usual are a median of "
                    f"{medians[0]:.4g} and a standard deviation of {medians[1]:.4g}.",
                )


def _check_labels(field: _Field) -> Iterator[Suspicion]:
    labelled = [case for case in field.read if case.facts is not None and case.facts.label_voxels]
    names = labelled[0].facts.label_voxels if labelled and labelled[0].facts is not None else ()
    for name in names:
        missing = [case for case in labelled if case.facts is not None and not case.facts.label_voxels[name]]
        share = (len(labelled) - len(missing)) / max(len(labelled) - 1, 1)  # of the others
        for case in missing if share > OFTEN and len(labelled) > LEAST_LABELLED else ():
            yield _graded(
                case.case,
                "label-missing",
                1 + (share - OFTEN) / (1 - OFTEN) / 2,
                f"label {name} is missing",
                f"The mask lacks {name}, which {_percent(share)} of the others have.",
            )


ALONE = (_check_files, _check_channels, _check_values, _check_outside, _check_cut, _check_repeats)
COMPARING = (_check_likeness, _check_mirrors, _check_places, _check_sizes, _check_intensities, _check_labels)


def _most_other(field: _Field, case: CaseSigns, measure: str) -> float:
    return max((getattr(found, measure) for found in field.read if found is not case), default=0.0)


def _name_mirror(number: int) -> str:
    return " and ".join(side for side, flipped in zip(SIDES, MIRRORS[number], strict=True) if flipped)


def _show_values(values: Sequence[float]) -> str:
    return join_names((f"{value:.9g}" for value in values), limit=4)


def _as_sentence(clause: str) -> str:
    return f"{clause[:1].upper()}{clause[1:]}."
