"""How long a training will take is logged once, after its first steps."""

import logging

import pytest

from autoseg.folds.running import TimeAhead


@pytest.mark.parametrize(("total", "count"), [(1006, 1), (50, 0)])
def test_the_time_ahead_is_logged_once_and_not_for_a_moment(caplog, total, count):
    caplog.set_level(logging.INFO, logger="autoseg")
    now, seen = [0.0], []
    progress = TimeAhead(lambda *step: seen.append(step), clock=lambda: now[0])
    for step in range(1, 30):
        now[0] += 100.0 if step == 1 else 0.5  # the first one compiles
        progress(step, total, "training steps")
    lines = [record.message for record in caplog.records if "a step takes" in record.message]
    assert len(lines) == count
    assert len(seen) == 29
    if count:
        assert lines[0] == "a step takes 0.5 s, so the 1,000 steps ahead take about 8 min 20 s; --time-budget limits it"
