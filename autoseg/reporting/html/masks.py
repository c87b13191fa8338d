"""Page of the masks of new scans: cases for review, every mask in three slices, its lesions in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autoseg.core.records import CaseLesions, Doubt
from autoseg.core.text import join_names
from autoseg.evaluation.review import DISAGREEMENT, rank_doubts
from autoseg.reporting.html.check import COLOURS
from autoseg.reporting.html.numbers import count, format_volume
from autoseg.reporting.html.page import render_page

SECTIONS = {"review": "For review", "masks": "Masks", "cases": "Cases"}
MAX_BYTES = 20_000_000  # of all cards together; a mail takes as much
CARD_BYTES = 4000  # of a card without pictures
MAX_LESIONS = 10  # listed of each label of a case


@dataclass(frozen=True, kw_only=True)
class MasksContent:
    """Everything that the page shows.

    Attributes:
        made_at: date and time, as shown.
        model: its name.
        channels: names, in order.
        labels: names of the labels but the background, in the order of their colours.
        cases: lesions and slices of each.
        doubts: case -> its doubt; they replace those of ``cases``.
        failures: case -> sentence.
    """

    made_at: str
    model: str
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    cases: Sequence[CaseLesions]
    doubts: Mapping[str, Doubt] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)


def render_masks_page(content: MasksContent) -> str:
    """Fill the template; cases for review come first, in the order of their rank."""
    doubts = {case.case: case.doubt for case in content.cases if case.doubt is not None} | dict(content.doubts)
    ranked = rank_doubts(list(doubts.values()))
    ranks = {doubt.case: rank for rank, doubt in enumerate(ranked, start=1)}
    order = sorted(content.cases, key=lambda case: (ranks.get(case.case, len(ranks) + 1), case.case))
    return render_page(
        "masks.html",
        sections=SECTIONS,
        notes={},
        values={
            "content": content,
            "facts": _summarize(content, len(ranked)),
            "rule": _explain_rule(len(ranked), len(doubts)),
            "ranked": ranked,
            "ranks": ranks,
            "reasons": {doubt.case: doubt.reason for doubt in ranked},
            "order": order,
            "numbers": {case.case: number for number, case in enumerate(order)},
            "shown": _choose_shown(order),
            "lesions": {case.case: _list_lesions(case) for case in order},
            "several_labels": any(len(case.labels) > 1 for case in order),
            "colours": COLOURS,
        },
    )


def _summarize(content: MasksContent, for_review: int) -> list[str]:
    """Lines below the title: cases for review, lesions, and the model's facts."""
    cases = content.cases
    failed = f"; {count(len(content.failures), 'case')} could not be predicted" if content.failures else ""
    sentences = []
    for label in dict.fromkeys(name for case in cases for name in case.labels):
        found = [case.labels[label] for case in cases if label in case.labels]
        lesions = count(sum(len(masks.lesions) for masks in found), "lesion")
        volume = format_volume(sum(masks.volume_ml for masks in found))
        with_any = sum(bool(masks.lesions) for masks in found)
        sentences.append(f"{label}: {lesions}, {volume} ml, in {with_any} of {count(len(found), 'case')}")
    return [
        f"{for_review} of {count(len(cases), 'case')} for review{failed}.",
        f"{'; '.join(sentences)}.",
        f"Channels {join_names(content.channels)}; {content.made_at}.",
    ]


def _explain_rule(for_review: int, cases: int) -> str:
    """Rule that selects cases for review."""
    if for_review == cases:
        return "Of so few cases all are for review, the most uncertain first."
    return (
        "The most uncertain tenth of the cases is for review, at least three, and every case whose networks disagree "
        f"(1 - Dice {DISAGREEMENT:g} or more; measured with --doubt)."
    )


def _choose_shown(order: Sequence[CaseLesions]) -> frozenset[str]:
    """The first cases whose cards fit into ``MAX_BYTES``, at least one."""
    shown: list[str] = []
    size = 0
    for case in order:
        pictures = sum(sum(map(len, view.scans)) + sum(len(path) for _, path in view.outlines) for view in case.planes)
        size += CARD_BYTES + pictures
        if shown and size > MAX_BYTES:
            break
        shown.append(case.case)
    return frozenset(shown)


def _list_lesions(case: CaseLesions) -> tuple[list[list[str]], str]:
    """A row per lesion, the largest of each label; and a sentence on the others."""
    rows, smaller = [], []
    several = len(case.labels) > 1
    for label, found in case.labels.items():
        for number, lesion in enumerate(found.lesions[:MAX_LESIONS], start=1):
            rows.append(
                [
                    f"{label} {number}" if several else str(number),
                    format_volume(lesion.volume_ml),
                    f"{lesion.mean_probability:.2f}",
                    lesion.side or "unknown",
                    ", ".join(f"{mm:.0f}" for mm in lesion.centre),
                ]
            )
        rest = found.lesions[MAX_LESIONS:]
        if rest:
            volume = format_volume(sum(lesion.volume_ml for lesion in rest))
            smaller.append(f"{len(rest)} smaller of {label}, {volume} ml in all")
    return rows, f"And {'; '.join(smaller)}; see lesions.csv." if smaller else ""
