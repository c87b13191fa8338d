"""Page of a checked dataset: ranked suspicions, and every case in three slices with the outlines of its labels."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.checking import KINDS
from autoseg.core.records import Check, CheckedCase, PlaneView, Suspicion
from autoseg.core.text import join_names
from autoseg.reporting.canvas import render_jpeg
from autoseg.reporting.html.numbers import count, format_volume
from autoseg.reporting.html.page import render_page
from autoseg.reporting.html.viewer import MAX_CHANNELS, SIDES
from autoseg.reporting.outlines import render_path, trace_outline
from autoseg.reporting.slices import Slices, cut_planes

MAX_PIXELS = 200  # of a picture's longer side
COLOURS = 6  # of labels, in the style sheet
SECTIONS = {"suspicions": "Suspicions", "cases": "Cases", "checks": "Checks"}
PLANES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True, kw_only=True)
class CheckContent:
    """Everything that the page shows.

    Attributes:
        made_at: date and time, as shown.
        check: suspicions and measures.
        channels: names, in order.
        labels: names of the labels but the background, in the order of their colours.
        planes: case -> its slices; empty without pictures.
        notes: section -> sentences on what is missing.
    """

    made_at: str
    check: Check
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    planes: Mapping[str, tuple[PlaneView, ...]]
    notes: Mapping[str, tuple[str, ...]]


def view_planes(
    scan: np.ndarray, mask: np.ndarray | None, spacing: Sequence[float], values: Sequence[int]
) -> tuple[PlaneView, ...]:
    """Three slices of a case through its mask.

    Args:
        scan: (C,Z,Y,X) float; axes run I->S, A->P, R->L.
        mask: (Z,Y,X) integer, or None.
        spacing: mm along (z,y,x).
        values: of the labels, in the order of their colours.
    """
    return tuple(_view_plane(plane, values) for plane in cut_planes(scan[:MAX_CHANNELS], mask, spacing))


def _view_plane(plane: Slices, values: Sequence[int]) -> PlaneView:
    number, total = plane.numbers[0]
    label = plane.prediction[0]
    height, width = (voxels * mm for voxels, mm in zip(label.shape, plane.pixel, strict=True))
    paths = ((colour % COLOURS, render_path(trace_outline(label == value))) for colour, value in enumerate(values))
    return PlaneView(
        scans=tuple(base64.b64encode(render_jpeg(scan[0], largest=MAX_PIXELS)).decode() for scan in plane.image),
        outlines=tuple((colour, path) for colour, path in paths if path),
        sides=SIDES[plane.axis],
        size=(width, height),
        pixel=(plane.pixel[1], plane.pixel[0]),
        caption=f"{PLANES[plane.axis]} {number + 1} of {total}",
    )


def render_check_page(content: CheckContent) -> str:
    """Fill the template; cases under suspicion come first, in the order of their rank."""
    check = content.check
    suspicions: dict[str, list[tuple[int, Suspicion]]] = {}
    for rank, suspicion in enumerate(check.suspicions, start=1):
        suspicions.setdefault(suspicion.case, []).append((rank, suspicion))
    measures = {case.case: case for case in check.cases}
    order = [*suspicions, *(case for case in measures if case not in suspicions)]
    found = Counter(suspicion.kind for suspicion in check.suspicions)
    return render_page(
        "check.html",
        sections=SECTIONS,
        notes=content.notes,
        values={
            "content": content,
            "facts": _summarize(content),
            "numbers": {case: number for number, case in enumerate(order)},
            "order": order,
            "suspicions": suspicions,
            "descriptions": {name: _describe(measures[name]) for name in order},
            "kinds": [(title, found.get(kind, 0), text) for kind, (title, text) in KINDS.items()],
            "titles": {kind: title for kind, (title, _) in KINDS.items()},
            "colours": COLOURS,
        },
    )


def _summarize(content: CheckContent) -> list[str]:
    """Lines below the title."""
    check = content.check
    cases = len({suspicion.case for suspicion in check.suspicions})
    counted = Counter(suspicion.certainty for suspicion in check.suspicions)
    graded = join_names(f"{counted[word]} {word}" for word in ("certain", "likely", "possible") if counted[word])
    found = f"{count(len(check.suspicions), 'suspicion')} in {count(cases, 'case')}: {graded}."
    return [
        f"{count(len(check.cases), 'case')} checked, channels {join_names(content.channels)}; {content.made_at}.",
        found if check.suspicions else "Nothing looks wrong.",
    ]


def _describe(case: CheckedCase) -> str:
    """Size of the scan, and the volume of each label."""
    if case.spacing is None or case.shape is None:
        return ""
    voxels, spacing = (" x ".join(f"{n:.4g}" for n in numbers) for numbers in (case.shape, case.spacing))
    voxel_ml = float(np.prod(case.spacing)) / 1000
    volumes = (f"{name} {format_volume(amount * voxel_ml)} ml" for name, amount in case.mask_voxels.items())
    return "; ".join([f"{voxels} voxels of {spacing} mm (z,y,x)", join_names(volumes, limit=6)]).removesuffix("; ")
