"""Which engine is taken, and how it is timed."""

import pytest

from autoseg.batches import Timing, time_batches


@pytest.mark.parametrize(
    ("cpu_s", "gpu_s", "step_s", "chosen"),
    [
        (0.1, 0.05, 0.2, "cpu"),  # hidden behind the step
        (0.3, 0.05, 0.2, "gpu"),  # 0.25 is shorter than 0.3
        (0.3, 0.15, 0.2, "cpu"),  # 0.35 is longer
        (0.25, 0.05, 0.2, "cpu"),  # of equals, the one that leaves the GPU alone
    ],
)
def test_the_shorter_step_wins(cpu_s, gpu_s, step_s, chosen):
    timing = Timing(cpu_s=cpu_s, gpu_s=gpu_s, step_s=step_s)
    assert timing.choose() == chosen
    assert f"threads {cpu_s:.3f} s and the GPU {gpu_s:.3f} s" in timing.describe()


class Slow:
    """Batches of a given length, by a clock of their own."""

    def __init__(self, seconds):
        self.seconds, self.now, self.asked = seconds, 0.0, []

    def batch(self, step, stage=0):
        self.asked.append(step)
        self.now += self.seconds if step else 100.0  # the first starts everything


@pytest.mark.parametrize(("seconds", "made"), [(5.0, 3), (0.5, 4), (0.01, 32)])
def test_a_timing_is_short_and_leaves_the_first_batch_out(seconds, made):
    slow, waits = Slow(seconds), []
    assert time_batches(slow, wait=lambda: waits.append(1), clock=lambda: slow.now) == pytest.approx(seconds)
    assert slow.asked == list(range(made + 1))
    assert len(waits) == made + 1
