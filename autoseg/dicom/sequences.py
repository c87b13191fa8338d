"""Sequence of each volume, and the volume of each channel, always with the rule that decided.

A rule is, in this order: what ``--channel NAME=PATTERN`` asks for; a word of the series' name; the weighting that echo,
repetition and inversion time give; the b-value. Where two volumes fit, none is chosen.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from autoseg.core.errors import DataError
from autoseg.core.text import join_names
from autoseg.dicom.attributes import Traits
from autoseg.dicom.volumes import Volume

# Kind -> a pattern of one word of a name; the first kind that fits counts.
_NAMES = {
    "localiser": r"loc|locali[sz]er\w*|scout\w*|survey\w*|aahscout\w*|3plane",
    "ADC": r"d?adc\w*|apparent",
    "FA": r"fa|colfa|tensor",
    "DWI": r"\w*dwi\w*|trace\w*|diff\w*|dti\w*|b\d{2,4}",
    "perfusion": r"perf\w*|dsc|dce|asl|pcasl|cbf|cbv|mtt|tmax|ttp",
    "angiography": r"tof\w*|mra|angio\w*",
    "SWI": r"swi\w*|swan\w*",
    "T2star": r"t2star\w*|t2s|t2\*\w*|hemo\w*",
    "FLAIR": r"\w*flair\w*|\w*tirm\w*|darkfluid",
    "T1": r"t1\w*|mp2?rage\w*|bravo|f?spgr\w*|vibe",
    "T2": r"t2\w*",
    "PD": r"pd\w*",
}
_CONTRAST = (
    r"\+?c\+?|gd\w*|gado?\w*|post|postgd\w*|postcon\w*|ce|km|\w*contrast|t1c|t1ce\w*|t1gd\w*|t1post\w*|t1w?ks|t1km"
)
_PLAIN_C = "c"  # a channel may be called "T1 c"; in a series' name only "+c" and "c+" count
_REFORMATTED = frozenset({"MPR", "MIP", "MINIP", "PROJECTION IMAGE", "REFORMATTED", "SUBTRACT", "SUBTRACTION"})
LEAST_DWI_B = 400.0  # s/mm2; below it, an image is not diffusion-weighted enough to be called DWI


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The volume of a channel, and the rule in one clause."""

    volume: Volume
    rule: str


def find_kind(volume: Volume) -> tuple[str | None, str]:
    """Kind of a volume (``FLAIR``, ``T1``, ``T1c``, ...; None where nothing tells), and the rule in one clause."""
    traits = volume.traits
    kind, word = name_kind(volume.series.name)
    is_double_echo = kind in ("PD", "T2") and "PD" in volume.series.name.upper() and volume.part.startswith("TE=")
    if "ADC" in traits.image_type:
        return "ADC", "its image type is ADC"
    if traits.b_value is not None and (kind == "DWI" or (kind is None and traits.b_value > 0)):
        return ("DWI" if traits.b_value >= LEAST_DWI_B else "b0"), f"its b-value is {traits.b_value:g}"
    if kind is None or is_double_echo:  # a double echo has one name for both
        return _find_weighting(traits)
    if kind == "T1" and traits.contrast:
        return "T1c", f"its name has '{word}', and a contrast agent is stated"
    return kind, f"its name has '{word}'"


def name_kind(name: str) -> tuple[str | None, str]:
    """Kind that a name states, and the word that does; None and "" where it states none."""
    words = re.findall(r"[0-9a-z*+]+", re.sub(r"dark[ _-]*fluid", "darkfluid", name.lower()))
    for kind, pattern in _NAMES.items():
        word = next((word for word in words if re.fullmatch(pattern, word)), None)
        if word is None:
            continue
        # T1 FLAIR is what GE calls an inversion-recovery T1.
        is_t1 = kind == "T1" or (kind == "FLAIR" and any(re.match("t1", w) for w in words))
        contrast = next((w for w in words if w != _PLAIN_C and re.fullmatch(_CONTRAST, w)), None)
        if is_t1 and (contrast or words[-1] == _PLAIN_C):
            return "T1c", f"{word} {contrast}" if contrast and contrast != word else word
        return "T1" if is_t1 else kind, word
    return None, ""


def _find_weighting(traits: Traits) -> tuple[str | None, str]:
    """Kind by echo, repetition and inversion time; the limits hold at 1.5 and 3 T."""
    echo, repetition, inversion = traits.echo_ms, traits.repetition_ms, traits.inversion_ms
    if echo is None or repetition is None:
        return None, "its echo or repetition time is not stated"
    times = f"TE {echo:g} ms, TR {repetition:g} ms" + (f", TI {inversion:g} ms" if inversion else "")
    gradient = "GR" in traits.scanning and "SE" not in traits.scanning
    kind = None
    if inversion and inversion >= 1500 and echo >= 60:
        kind = "FLAIR"
    elif inversion and echo < 30:
        kind = "T1"
    elif gradient:
        kind = "T1" if echo < 12 and repetition < 800 else "T2star" if echo >= 15 else None
    elif "SE" in traits.scanning and not inversion and "EP" not in traits.scanning:
        if repetition <= 1200 and echo <= 30:
            kind = "T1"
        elif repetition >= 1800:
            kind = "T2" if echo >= 60 else "PD" if echo <= 35 else None
    if kind == "T1" and traits.contrast:
        return "T1c", f"it is T1-weighted ({times}), and a contrast agent is stated"
    return kind, f"it is {kind}-weighted ({times})" if kind else f"its weighting is unclear ({times})"


def choose_volumes(
    case: str, channels: Sequence[str], volumes: Sequence[Volume], patterns: Mapping[str, str]
) -> dict[str, Choice]:
    """The volume of every channel.

    Args:
        case: for messages.
        channels: names, as the plan has them.
        volumes: of one study.
        patterns: channel -> pattern of a title, or number of a series.

    Raises:
        DataError: a channel has no volume or several; the message lists them and what to write.
    """
    kinds = {id(volume): find_kind(volume) for volume in volumes}
    choices: dict[str, Choice] = {}
    for channel in channels:
        if channel in patterns:
            pattern = patterns[channel]
            candidates = [volume for volume in volumes if matches(volume, pattern)]
            reasons = dict.fromkeys(map(id, candidates), f"--channel {channel}={pattern}")
        else:
            candidates, reasons = _find_candidates(channel, len(channels), volumes, kinds)
        if len(candidates) != 1:
            listed = [f"{volume.title}: {_describe(kinds[id(volume)])}" for volume in candidates or volumes]
            raise DataError(
                f"case {case}: {f'{len(candidates)} series' if candidates else 'no series'} may be channel {channel}; "
                f"choose with --channel '{channel}=PATTERN' ({'; '.join(listed[:12]) or 'no volume at all'})"
            )
        choices[channel] = Choice(volume=candidates[0], rule=reasons[id(candidates[0])])
    twice = [a for a in choices for b in choices if a != b and choices[a].volume is choices[b].volume]
    if twice:
        raise DataError(
            f"case {case}: {choices[twice[0]].volume.title} would be the channels {join_names(twice)}; choose "
            f"with --channel '{twice[-1]}=PATTERN'"
        )
    return choices


def matches(volume: Volume, pattern: str) -> bool:
    """Whether a pattern (``*`` and ``?``, or text contained in the title; any case) or a series number fits."""
    if pattern.isdigit() and volume.series.number == int(pattern):
        return True
    texts = (volume.title.lower(), f"{volume.series.name} {volume.part}".strip().lower())
    wide = pattern.lower() if re.search(r"[*?\[]", pattern) else f"*{pattern.lower()}*"
    return any(fnmatch.fnmatchcase(text, wide) for text in texts)


def _find_candidates(
    channel: str, count: int, volumes: Sequence[Volume], kinds: Mapping[int, tuple[str | None, str]]
) -> tuple[list[Volume], dict[int, str]]:
    """Volumes that may be a channel, and the rule of each."""
    reasons = {key: reason for key, (_, reason) in kinds.items()}
    stated = re.fullmatch(r"b[ _=]?(\d+)", channel.lower())
    if stated:
        value = float(stated[1])
        same_b = [v for v in volumes if v.traits.b_value is not None and abs(v.traits.b_value - value) <= 5]
        return same_b, {id(v): f"its b-value is {v.traits.b_value:g}" for v in same_b}
    kind = name_kind(channel)[0]
    if kind is None:
        words = re.findall(r"[0-9a-z]+", channel.lower())
        named = [v for v in volumes if set(words) <= set(re.findall(r"[0-9a-z]+", v.series.name.lower()))]
        return named, {id(v): f"its name has '{channel}'" for v in named}
    fitting = [v for v in volumes if kinds[id(v)][0] == kind]
    plain = [v for v in fitting if not _REFORMATTED & set(v.traits.image_type)]
    fitting = plain or fitting
    if kind == "DWI":
        highest = max((v.traits.b_value or 0 for v in fitting), default=0)
        fitting = [v for v in fitting if (v.traits.b_value or 0) == highest]
        traces = [v for v in fitting if {"TRACEW", "TRACE", "ISOTROPIC"} & set(v.traits.image_type)]
        fitting = traces or fitting
        reasons |= {id(v): f"{reasons[id(v)]}, the highest of the study" for v in fitting if highest}
    if not fitting and count == 1 and len(volumes) == 1 and kinds[id(volumes[0])][0] is None:
        return list(volumes), {id(volumes[0]): f"it is the only volume, and {reasons[id(volumes[0])]}"}
    return fitting, reasons


def _describe(kind: tuple[str | None, str]) -> str:
    return f"{kind[0] or 'unclear'}, {kind[1]}"


def frequent_kinds(studies: Iterable[Sequence[Volume]]) -> tuple[str, ...]:
    """Kinds that exactly one volume of at least half of the studies has, in the order of sequence names."""
    listed = list(studies)
    order = [*(k for k in ("FLAIR", "T1", "T1c", "T2", "PD", "T2star", "SWI", "DWI", "ADC"))]
    counts = dict.fromkeys(order, 0)
    for volumes in listed:
        for kind in {find_kind(volume)[0] for volume in volumes} & set(order):
            counts[kind] += 1  # type: ignore[index]
    return tuple(kind for kind in order if counts[kind] and 2 * counts[kind] >= len(listed))
