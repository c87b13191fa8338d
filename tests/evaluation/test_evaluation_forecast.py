"""What more cases would bring, from curves whose law is known."""

import numpy as np
import pytest

from autoseg.core.records import LearningCurve
from autoseg.evaluation.forecast import forecast
from autoseg.evaluation.tables import render_curve

SIZES = (10, 20, 40, 80)


def draw_curve(seed, *, limit=0.9, scale=1.2, exponent=0.5, patients=40, sizes=SIZES, noise=0.02):
    """(S,n) scores: the law, how hard each patient is at every size, and noise of each score."""
    rng = np.random.default_rng(seed)
    law = limit - scale * np.asarray(sizes, float) ** -exponent
    return law[:, None] + rng.normal(0, 0.08, patients) + rng.normal(0, noise, (len(sizes), patients))


def name_patients(count):
    return [f"p{number}" for number in range(count)]


def test_a_curve_that_follows_the_law_goes_on_as_it_does():
    values = np.repeat((0.9 - 1.2 * np.array(SIZES) ** -0.5)[:, None], 5, axis=1)
    found = forecast("3d", SIZES, values, name_patients(5))
    assert found.cases == (160, 320)
    # 0.9 - 1.2 / sqrt(160) and 0.9 - 1.2 / sqrt(320)
    assert found.means == pytest.approx((0.8051, 0.8329), abs=1e-3)
    assert found.lower == pytest.approx(found.means)
    assert found.upper == pytest.approx(found.means)
    assert found.reason is None


def test_the_interval_holds_the_score_of_larger_sizes_that_were_hidden():
    """Sizes up to 80 are shown; the mean of the same patients at 160 and 320 is to lie inside, 95 times in 100."""
    sizes = (*SIZES, 160, 320)
    inside = []
    for seed in range(40):
        values = draw_curve(seed, sizes=sizes)
        found = forecast("3d", SIZES, values[:4], name_patients(40))
        assert found.cases == (160, 320)
        truth = values[4:].mean(axis=1)
        inside.append((np.array(found.lower) <= truth) & (truth <= np.array(found.upper)))
    assert np.mean(inside, axis=0).min() >= 0.85


def test_no_limit_lies_above_the_best_score():
    values = np.repeat(np.array([0.2, 0.4, 0.6, 0.8])[:, None], 5, axis=1)
    assert max(forecast("3d", SIZES, values, name_patients(5)).upper) <= 1


def test_a_curve_that_does_not_rise_is_said_to():
    values = draw_curve(0, scale=0.0, noise=0.005) - 0.02 * np.arange(4)[:, None]
    found = forecast("3d", SIZES, values, name_patients(40))
    assert found.reason == "the score does not rise with the cases"
    assert found.means == pytest.approx([values.mean()] * 2)


@pytest.mark.parametrize(
    ("sizes", "values", "patients", "reason"),
    [
        (SIZES[:3], draw_curve(0, sizes=SIZES[:3]), name_patients(40), "3 sizes are too few"),
        (SIZES, draw_curve(0, patients=3), ["p"] * 3, "one patient"),
        (SIZES, draw_curve(0, patients=3, noise=0.2), name_patients(3), "too wide to plan by"),
        (SIZES, np.zeros((4, 0)), [], "no case has a score at every size"),
    ],
)
def test_where_the_curve_cannot_tell_it_says_why(sizes, values, patients, reason):
    found = forecast("3d", sizes, values, patients)
    assert found.cases == ()
    assert reason in found.reason


def test_the_table_shows_forecasts_and_reasons():
    values = draw_curve(0)
    forecasts = (
        forecast("3d", SIZES, values, name_patients(40)),
        forecast("2d", SIZES[:2], values[:2], name_patients(40)),
    )
    curve = LearningCurve(dataset="Tiny", target_metric="dice", folds=("0",), points=(), forecasts=forecasts)
    table = render_curve(curve, width=80)
    assert "160 (forecast)" in table
    assert "320 (forecast)" in table
    assert "forecast of 2d: 2 sizes are too few" in " ".join(table.split())
