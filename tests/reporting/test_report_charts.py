"""Axes with round ends and ticks, values at their places, and what a chart says to who cannot see it."""

import re

import pytest

from autoseg.reporting.html.axes import HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, log_axis, place_x, place_y, span_axis
from autoseg.reporting.html.charts import Curve, Mark, Span, draw_curves, draw_marks, draw_spans


@pytest.mark.parametrize(
    ("values", "low", "high", "ticks"),
    [
        ((0.12, 0.93), 0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ((-3.0, 12.0), -5.0, 15.0, [-5.0, 0.0, 5.0, 10.0, 15.0]),
        ((2.0, 2.0), 1.4, 2.6, [1.5, 2.0, 2.5]),
    ],
)
def test_axes_end_and_tick_at_round_values(values, low, high, ticks):
    axis = span_axis("x", values)

    assert (axis.low, axis.high) == (pytest.approx(low), pytest.approx(high))
    assert axis.ticks() == pytest.approx(ticks)


def test_a_logarithmic_axis_has_whole_powers_of_ten():
    """0.05 to 12.5 ml lie between 0.01 and 100, four powers; 1 lies at the half."""
    axis = log_axis("ml", [0.05, 12.5])

    assert axis.ticks() == pytest.approx([0.01, 0.1, 1, 10, 100])
    assert axis.share(1.0) == pytest.approx(0.5)
    assert log_axis("ml", [10.0]).high == pytest.approx(100)


def test_values_lie_at_their_places_and_never_outside():
    axis = Axis(name="x", low=0, high=10)

    assert (place_x(axis, 0), place_x(axis, 10), place_x(axis, 11)) == (LEFT, WIDTH - RIGHT, WIDTH - RIGHT)
    assert place_y(axis, 10) == TOP
    assert place_y(axis, -5) > place_y(axis, 5) > TOP
    assert place_y(axis, 0) < HEIGHT


def test_curves_differ_and_have_a_legend_where_there_are_several():
    axis = Axis(name="epoch", low=0, high=2)
    curves = [Curve(name=f"fold {n}", points=((0.0, 0.0), (2.0, 2.0)), number=n) for n in (0, 1)]
    both = draw_curves(curves, axis, axis, title="Loss")

    assert both.count("<polyline") == 2
    assert re.findall(r"<li>.*?</svg>(.*?)</li>", both) == ["fold 0", "fold 1"]
    assert 'class="curve s0"' in both
    assert 'class="curve s1"' in both
    assert 'role="img" aria-label="Loss"' in both
    assert "<ul" not in draw_curves(curves[:1], axis, axis, title="Loss")


def test_points_lead_to_their_case_and_empty_references_lie_at_the_edge():
    across, up = log_axis("ml", [1.0]), Axis(name="dice", low=0, high=1)
    marks = [
        Mark(x=1.0, y=0.5, name="case1: <b>", link="#case-0"),
        Mark(x=0.0, y=0.0, name="case2", link="#case-1", edge=True),
    ]
    chart = draw_marks(marks, across, up, title="t", names=["lesion"])

    assert '<a href="#case-0"><circle class="mark s0"' in chart
    assert "<title>case1: &lt;b&gt;</title>" in chart
    assert f'cx="{LEFT + 6.0}"' in chart


def test_a_value_without_interval_is_a_dot_and_none_is_nothing():
    spans = [
        Span(name="3d", value=0.5, low=0.25, high=0.75, chosen=True),
        Span(name="2d", value=0.4, low=None, high=None),
        Span(name="a name of more than twenty letters", value=None, low=None, high=None),
    ]
    chart = draw_spans(spans, Axis(name="dice", low=0, high=1), title="t")

    assert (chart.count("<circle"), chart.count('<line class="span')) == (2, 1)
    assert 'class="span chosen"' in chart
    assert "<title>a name of more than twenty letters</title>a name of more than…" in chart
