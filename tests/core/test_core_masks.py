"""Channels that come one after the other."""

import numpy as np
import pytest

from autoseg.core.masks import running_argmax


@pytest.mark.parametrize(("last", "winners"), [(False, [1, 0, 0]), (True, [2, 2, 0])])
def test_ties_go_to_the_first_or_to_the_last_channel(last, winners):
    channels = np.array([[0, 2, 5], [3, 1, 4], [3, 2, -1]], np.float32)
    winner, best = running_argmax(iter(channels), last_of_ties=last)
    assert winner.tolist() == winners
    assert best.tolist() == [3, 2, 5]
    assert channels[0].tolist() == [0, 2, 5]  # not overwritten
