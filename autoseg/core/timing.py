"""Time alternatives and choose the fastest."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

WORTHWHILE = 0.95  # share of the default's time that an alternative must stay below

Name = TypeVar("Name", bound=str)


def shortest_s(
    call: Callable[[], object],
    *,
    warm_up: int,
    repeats: int,
    wait: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Seconds of a call, the shortest of several, because other processes on the machine can only add time.

    Args:
        call: the work.
        warm_up: calls that come first and do not count.
        repeats: calls that count.
        wait: for a device that still works when a call returns.
        clock: seconds.
    """
    times = []
    for _ in range(warm_up + repeats):
        started = clock()
        call()
        wait()
        times.append(clock() - started)
    return min(times[warm_up:])


def is_faster(alternative_s: float, default_s: float) -> bool:
    """Whether an alternative is at least 5 % faster than the default; a smaller gain does not justify a change."""
    return alternative_s < WORTHWHILE * default_s


def choose_fastest(seconds: Mapping[Name, float]) -> Name:
    """The first alternative, which is the default, unless the fastest of the others is at least 5 % faster.

    Args:
        seconds: name -> seconds, in order; at least one.
    """
    default = next(iter(seconds))
    fastest = min(seconds, key=lambda name: seconds[name])
    return fastest if is_faster(seconds[fastest], seconds[default]) else default


def describe_seconds(seconds: Mapping[str, float]) -> str:
    """``as written 1.2 s, channels last 0.9 s``, for a log line."""
    return ", ".join(f"{name} {value:.3g} s" for name, value in seconds.items())
