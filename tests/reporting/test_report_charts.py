"""Charts as SVG: values at their places, series that differ, and tooltips, links and names for screen readers."""

import re

import pytest

from autoseg.reporting.html.charts import (
    SERIES,
    WIDTH,
    Curve,
    Interval,
    Mark,
    draw_curves,
    draw_intervals,
    draw_marks,
    draw_reliability,
)

COLOURS = [colour for colour, _, _ in SERIES]


def lines(chart, colour):
    """Corners (x, y) of each line of a colour, in points; shapes with arcs are markers."""
    paths = re.findall(rf'<path [^>]*d="([^"]*)"[^>]*stroke="{colour}"', chart)
    numbers = [
        [float(word) for word in path.replace("M", "").replace("L", "").split()] for path in paths if "C" not in path
    ]
    return [list(zip(found[::2], found[1::2], strict=True)) for found in numbers]


def places(chart, colour):
    """Where markers of a colour stand: (x, y) in points."""
    marks = re.findall(rf'<use [^>]*x="([^"]*)" y="([^"]*)"[^>]*fill="{colour}"', chart)
    return [(float(x), float(y)) for x, y in marks]


def test_curves_differ_and_have_a_legend_where_there_are_several():
    curves = [Curve(name=f"fold {n}", points=((0.0, 0.0), (4.0, 2.0)), number=n) for n in (0, 1)]
    both, one = (draw_curves(some, "epoch", "loss", title="Loss") for some in (curves, curves[:1]))

    assert 'role="img" aria-label="Loss"' in both
    for colour in COLOURS[:2]:
        assert f'stroke="{colour}"' in both
    assert "stroke-dasharray" in both
    assert "stroke-dasharray" not in one
    assert [f">fold {n}</text>" in both for n in (0, 1)] == [True, True]
    assert "fold 0</text>" not in one
    assert all(f">{tick}</text>" in one for tick in (0, 1, 2, 3, 4))


def test_values_lie_at_their_places():
    """From (0, 0) over (1, 1) to (2, 0.5): halfway along x at the top, and back by half of the height."""
    curve = Curve(name="fold 0", points=((0.0, 0.0), (1.0, 1.0), (2.0, 0.5)), number=0)
    (line,) = lines(draw_curves([curve], "epoch", "Dice", title="Dice", unit_axis=True), COLOURS[0])
    (left, bottom), (middle, top), (right, half) = line

    assert middle - left == pytest.approx(right - middle, abs=0.01)
    assert half - top == pytest.approx((bottom - top) / 2, abs=0.01)
    assert 0 < left < right < WIDTH


def test_a_curve_of_one_point_is_a_dot():
    chart = draw_curves([Curve(name="fold 0", points=((1.0, 0.5),), number=0)], "epoch", "loss", title="t")

    assert len(places(chart, COLOURS[0])) == 1


def test_points_lead_to_their_case_and_empty_references_stand_at_the_left_edge():
    """Volumes 0.1, 1 and 10 ml are equally far apart; no volume is left of all."""
    marks = [
        Mark(x=volume, y=0.5, name=f"case{n}: <b>", link=f"#case-{n}") for n, volume in enumerate((0.1, 1.0, 10.0))
    ]
    marks.append(Mark(x=None, y=0.5, name="case3", link="#case-3"))
    chart = draw_marks(marks, "volume (ml)", "dice", title="t", names=["lesion"])
    tenth, one, ten, none = (x for x, _ in places(chart, COLOURS[0])[-4:])

    assert ten - one == pytest.approx(one - tenth, abs=0.01)
    assert none < tenth
    assert re.findall(r'<a href="(#case-\d)"', chart) == ["#case-0", "#case-1", "#case-2", "#case-3"]
    assert "<title>case0: &lt;b&gt;</title>" in chart


def test_labels_differ_in_shape_and_colour():
    marks = [Mark(x=1.0, y=0.5, name="a", number=number) for number in (0, 1)]
    chart = draw_marks(marks, "volume (ml)", "dice", title="t", names=["core", "oedema"])
    shapes = {kind for kind, _ in re.findall(rf'<use href="#(\w+)"[^>]*fill="({"|".join(COLOURS[:2])})"', chart)}

    assert len(shapes) >= 2
    assert "core</text>" in chart
    assert "oedema</text>" in chart


def test_a_value_without_interval_is_a_dot_and_none_is_nothing():
    intervals = [
        Interval(name="3d", value=0.5, low=0.25, high=0.75, selected=True),
        Interval(name="2d", value=0.4, low=None, high=None),
        Interval(name="a name of more than twenty letters", value=None, low=None, high=None),
    ]
    chart = draw_intervals(intervals, "dice", title="t")
    ((left, right),) = lines(chart, COLOURS[0])
    ((selected, _),) = places(chart, COLOURS[0])
    grey = places(chart, "#5c5c5c")
    (other,) = [x for x, y in grey if y < max(y for _, y in grey)]  # the others are ticks

    assert selected == pytest.approx((left[0] + right[0]) / 2, abs=0.01)
    assert other < selected
    assert "<title>a name of more than twenty letters</title>" in chart
    assert ">a name of more than…</text>" in chart


def test_nothing_in_a_chart_is_forbidden_by_the_policy_of_the_page():
    """No style attribute, no style element, no address; element ids of two charts differ."""
    curve = Curve(name="a", points=((0.0, 0.1), (1.0, 0.9)), number=0)
    one, two = (draw_reliability([curve], "x", "y", title=title) for title in ("one", "two"))

    for word in ("style", "://", "<metadata", "DOCTYPE"):
        assert word not in one
    ids = [set(re.findall(r' id="(\w+)"', chart)) for chart in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert one == draw_reliability([curve], "x", "y", title="one")
