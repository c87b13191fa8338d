"""Frames of a series -> volumes on a regular grid, and a sentence for every series that is none."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.core.records import Grid
from autoseg.core.text import join_names
from autoseg.dicom.attributes import Frame, Series, Traits

SAME_DIRECTION = 1e-3  # of a component of a unit vector
SAME_PLACE_MM = 0.01
SAME_SPACING_MM = 1e-3
OFF_PLACE_MM, OFF_PLACE_SHARE = 0.1, 0.05  # a slice may lie so far from its regular place; share of the spacing
TILT_MM = 0.1  # that the last slice may be shifted within its plane
LEAST_SLICES = 3


@dataclass(frozen=True, kw_only=True)
class Volume:
    """Slices of one series on a regular grid.

    Attributes:
        traits: that all slices share.
        frames: sorted along the normal of the planes.
        grid: axes (slice, row, column); the slices run along the cross product of row and column directions.
        part: what tells it from other volumes of its series: ``b=1000``; empty for the only one.
    """

    series: Series
    traits: Traits
    frames: tuple[Frame, ...]
    grid: Grid
    part: str = ""

    @property
    def title(self) -> str:
        """``AX FLAIR (series 4, 28 slices)``."""
        number = "no series number" if self.series.number is None else f"series {self.series.number}"
        return f"{self.series.title} ({number}{', ' * bool(self.part)}{self.part}, {len(self.frames)} slices)"


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A series, or a part of one, that is not a volume, and the reason."""

    series: Series
    reason: str

    @property
    def title(self) -> str:
        """``LOCALIZER (series 1)``."""
        number = "no series number" if self.series.number is None else f"series {self.series.number}"
        return f"{self.series.title} ({number})"


def build_volumes(frames: Sequence[Frame]) -> tuple[list[Volume], list[LeftOut]]:
    """Volumes of one study, by series; a series with several echoes, b-values or image types has several."""
    volumes: list[Volume] = []
    left_out: list[LeftOut] = []
    by_series: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        by_series[frame.series.uid].append(frame)
    for members in by_series.values():
        series = members[0].series
        planes = _group_planes(members)
        if len(planes) > 1:
            left_out.append(LeftOut(series=series, reason=f"has slices in {len(planes)} orientations, as a localiser"))
            continue
        parts = _split(members)
        for part, slices in parts:
            outcome = _stack(series, slices, part)
            (volumes if isinstance(outcome, Volume) else left_out).append(outcome)  # type: ignore[arg-type]
    key = {uid: number for number, uid in enumerate(by_series)}
    volumes.sort(key=lambda v: (v.series.number is None, v.series.number or 0, key[v.series.uid], v.part))
    return volumes, left_out


def _group_planes(frames: Sequence[Frame]) -> list[tuple[np.ndarray, list[Frame]]]:
    planes: list[tuple[np.ndarray, list[Frame]]] = []
    for frame in frames:
        axes = np.array([*frame.along_row, *frame.along_column])
        for plane, members in planes:
            if np.abs(plane - axes).max() <= SAME_DIRECTION:
                members.append(frame)
                break
        else:
            planes.append((axes, [frame]))
    return planes


def _split(frames: Sequence[Frame]) -> list[tuple[str, list[Frame]]]:
    """Parts of a series with the same size and traits; a series with one slice at every place is not split."""
    sizes = Counter((frame.rows, frame.columns) for frame in frames)
    if len(sizes) == 1 and _count_at_places(frames).max() == 1:
        return [("", list(frames))]
    by_traits: dict[tuple[Traits, int, int], list[Frame]] = defaultdict(list)
    for frame in frames:
        by_traits[frame.traits, frame.rows, frame.columns].append(frame)
    names = _name_parts([traits for traits, _, _ in by_traits])
    return list(zip(names, by_traits.values(), strict=True))


def _name_parts(all_traits: Sequence[Traits]) -> list[str]:
    """Names of the parts of a series, by what differs between them: ``b=1000``, ``TE=90 ms``, ``ADC``."""
    words = Counter(word for traits in all_traits for word in set(traits.image_type))
    names = []
    for traits in all_traits:
        clauses = []
        if len({t.b_value for t in all_traits}) > 1 and traits.b_value is not None:
            clauses.append(f"b={traits.b_value:g}")
        if len({t.echo_ms for t in all_traits}) > 1 and traits.echo_ms is not None:
            clauses.append(f"TE={traits.echo_ms:g} ms")
        clauses += [word for word in dict.fromkeys(traits.image_type) if words[word] < len(all_traits)]
        names.append(" ".join(clauses))
    return names


def _heights(frames: Sequence[Frame]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,3) positions, (3,) normal, (N,) mm along the normal."""
    normal = np.cross(frames[0].along_row, frames[0].along_column)
    positions = np.array([frame.position for frame in frames])
    return positions, normal / np.linalg.norm(normal), positions @ (normal / np.linalg.norm(normal))


def _count_at_places(frames: Sequence[Frame]) -> np.ndarray:
    """(places,) number of frames at each place along the normal."""
    heights = np.sort(_heights(frames)[2])
    starts = np.flatnonzero(np.diff(heights, prepend=-np.inf) > SAME_PLACE_MM)
    return np.diff(starts, append=len(heights))


def _stack(series: Series, frames: Sequence[Frame], part: str) -> Volume | LeftOut:
    """One volume, or the reason why its slices do not make one."""
    fault = next(_list_faults(frames), None)
    if fault is not None:
        return LeftOut(series=series, reason=f"({part}) {fault}" if part else fault)
    _, normal, heights = _heights(frames)
    order = np.argsort(heights)
    ordered = tuple(frames[i] for i in order)
    first = ordered[0]
    row, column = np.array(first.along_row), np.array(first.along_column)
    column = column - row * (row @ column)
    direction = np.stack([normal, column / np.linalg.norm(column), row], axis=1)
    return Volume(
        series=series,
        traits=_shared_traits(ordered),
        frames=ordered,
        grid=Grid(
            shape=(len(ordered), first.rows, first.columns),
            spacing=(float(np.ptp(heights)) / (len(frames) - 1), first.spacing[0], first.spacing[1]),
            origin=first.position,
            direction=tuple(tuple(float(v) for v in line) for line in direction),  # type: ignore[arg-type]
        ),
        part=part,
    )


def _list_faults(frames: Sequence[Frame]) -> Iterator[str]:
    """Reasons why slices do not make a volume, as clauses; each is computed only where none came before."""
    if len({(frame.rows, frame.columns) for frame in frames}) > 1:
        yield "has slices of different sizes"
    if any(np.abs(np.subtract(frame.spacing, frames[0].spacing)).max() > SAME_SPACING_MM for frame in frames):
        yield "has slices of different pixel spacings"
    if "LOCALIZER" in frames[0].traits.image_type:
        yield "is a localiser"
    counts = _count_at_places(frames)
    if counts.max() > 1 and counts.min() == counts.max():
        yield f"has {counts.max()} images at every place (repetitions or diffusion directions)"
    if counts.max() > 1:
        yield f"has doubled slices: several images at {(counts > 1).sum()} of {len(counts)} places"
    if len(frames) < LEAST_SLICES:
        yield f"has {len(frames)} slice{'s' * (len(frames) > 1)}; a volume has {LEAST_SLICES} or more"
    positions, normal, heights = _heights(frames)
    order = np.argsort(heights)
    positions, heights = positions[order], heights[order]
    gaps = np.diff(heights)
    steps = max(1, round(float(np.ptp(heights) / np.median(gaps))))
    index = (heights - heights[0]) / (np.ptp(heights) / steps)
    off = np.abs(index - np.rint(index)).max() * np.ptp(heights) / steps
    if off > max(OFF_PLACE_MM, OFF_PLACE_SHARE * np.median(gaps)):
        yield f"has uneven distances between slices ({gaps.min():.3g} to {gaps.max():.3g} mm)"
    missing = sorted(set(range(steps + 1)) - set(np.rint(index).astype(int).tolist()))
    if missing:
        numbers = join_names(n + 1 for n in missing)
        yield f"lacks {len(missing)} of {len(missing) + len(frames)} slices (number {numbers})"
    shift = np.linalg.norm(positions[-1] - positions[0] - (heights[-1] - heights[0]) * normal)
    if shift > TILT_MM:
        degrees = np.degrees(np.arctan2(shift, np.ptp(heights)))
        yield f"is tilted: its slices are shifted by {degrees:.3g} degrees (gantry tilt); resample it first"


def _shared_traits(frames: Sequence[Frame]) -> Traits:
    """Traits of the middle slice, without those that differ between slices."""
    middle = frames[len(frames) // 2].traits
    differ = {
        name
        for name in ("echo_ms", "repetition_ms", "inversion_ms", "b_value")
        if len({getattr(frame.traits, name) for frame in frames}) > 1
    }
    return middle.__class__(**{k: v for k, v in vars(middle).items() if k not in differ})
