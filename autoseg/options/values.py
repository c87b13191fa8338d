"""Values of options: text or a Python value -> the value, or an error with the correct form."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal

from autoseg.core.choices import SMALLEST_STEP
from autoseg.core.errors import UsageError


def duration(value: object) -> float:
    """``90s``, ``10m``, ``6h`` or a number of seconds -> seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", str(value).strip())
    if match is not None and float(match[1]) > 0:
        return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
    if isinstance(value, int | float) and 0 < value < float("inf"):
        return float(value)
    raise UsageError(f"invalid duration '{value}'; use 90s, 10m or 6h")


def duration_or_none(value: object) -> float | Literal["none"]:
    """A duration, or ``none``."""
    return "none" if value == "none" else duration(value)


def positive(value: object) -> float:
    """A finite number above 0."""
    number = _number(value)
    if not 0 < number < float("inf"):
        raise UsageError(f"invalid number '{value}'; use a positive number")
    return number


def fraction(value: object) -> float:
    """A number above 0 and at most 1."""
    number = _number(value)
    if not 0 < number <= 1:
        raise UsageError(f"invalid fraction '{value}'; use a number above 0 and at most 1")
    return number


def tile_step(value: object) -> float:
    """A distance between tiles as plans allow it: a smaller one takes days for a scan."""
    number = _number(value)
    if not SMALLEST_STEP <= number <= 1:
        raise UsageError(f"invalid share of a tile '{value}'; use a number from {SMALLEST_STEP:g} to 1")
    return number


def proper_fraction(value: object) -> float:
    """A number above 0 and below 1."""
    number = _number(value)
    if not 0 < number < 1:
        raise UsageError(f"invalid fraction '{value}'; use a number above 0 and below 1")
    return number


def integer(value: object) -> int:
    """A whole number."""
    if not re.fullmatch(r"-?\d+", str(value)):
        raise UsageError(f"invalid integer '{value}'; use a whole number")
    return int(str(value))


def integer_from(least: int) -> Callable[[object], int]:
    """A parser of whole numbers from ``least``."""

    def parse(value: object) -> int:
        if not str(value).isdigit() or int(str(value)) < least:
            raise UsageError(f"invalid integer '{value}'; use a whole number from {least}")
        return int(str(value))

    return parse


def part(value: object) -> tuple[int, int]:
    """``2/4`` or (2, 4) -> (2, 4): the second of four parts."""
    text = "/".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count:
        raise UsageError(f"invalid part '{text}'; use 1/4, 2/4, 3/4 or 4/4 for a quarter each")
    return number, count


def assignment(value: object) -> str:
    """``FLAIR=*dark*fluid*``: a name and a pattern."""
    name, _, pattern = str(value).partition("=")
    if not name.strip() or not pattern.strip():
        raise UsageError(f"invalid choice '{value}'; use NAME=PATTERN, such as 'FLAIR=*dark*fluid*'")
    return f"{name.strip()}={pattern.strip()}"


def one_device(value: object) -> str:
    """``auto``, ``cpu``, ``cuda``, one GPU of several: ``cuda:1``, or ``mps``."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", str(value)):
        raise UsageError(f"invalid device '{value}'; use auto, cpu, cuda, cuda:1 for the second GPU, or mps")
    return str(value)


def one_of(value: object, choices: Sequence[str]) -> str:
    """One of the choices."""
    if value not in choices:
        from autoseg.core.registry import unknown_name  # imports importlib.metadata

        raise UsageError(unknown_name("value", str(value), choices))
    return str(value)


def _number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return float("nan")
