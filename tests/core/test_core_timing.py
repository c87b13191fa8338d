"""One stopwatch: the shortest of several calls, and an alternative only where it is worth it."""

import pytest

from autoseg.core.timing import choose_fastest, describe_seconds, shortest_s


def test_the_shortest_call_counts_and_warm_up_does_not():
    # (start, end) of four calls: 1, 5, 3 and 4 seconds; the first one warms up
    ticks = iter([0.0, 1.0, 10.0, 15.0, 20.0, 23.0, 30.0, 34.0])
    calls = []
    assert shortest_s(lambda: calls.append(1), warm_up=1, repeats=3, clock=lambda: next(ticks)) == 3.0
    assert len(calls) == 4


def test_a_device_is_waited_for_before_the_clock_is_read():
    events = []
    shortest_s(
        lambda: events.append("call"),
        warm_up=0,
        repeats=1,
        wait=lambda: events.append("wait"),
        clock=lambda: float(events.append("clock") is None),
    )
    assert events == ["clock", "call", "wait", "clock"]


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({"a": 1.0}, "a"),
        ({"a": 1.0, "b": 0.96}, "a"),  # 4 % are not worth it
        ({"a": 1.0, "b": 0.94, "c": 0.93}, "c"),
        ({"a": 1.0, "b": 2.0}, "a"),
    ],
)
def test_the_default_stays_unless_another_is_clearly_faster(seconds, chosen):
    assert choose_fastest(seconds) == chosen


def test_seconds_in_words():
    assert describe_seconds({"as written": 1.234, "compiled": 0.5}) == "as written 1.23 s, compiled 0.5 s"
