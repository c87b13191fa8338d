"""The picture of a training's history."""

import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from autoseg.reporting import draw_progress
from autoseg.reporting.canvas import BLUE, GREEN, ORANGE, SKY, VERMILLION

ROW = {
    "epoch": 0,
    "train_loss": 1.0,
    "validation_dice": 0.3,
    "learning_rate": 0.01,
    "data_s": 1.0,
    "compute_s": 4.0,
    "epoch_s": 6.0,
}


def draw(history):
    picture = imread(io.BytesIO(draw_progress(history)))[..., :3]
    assert picture.shape == (840, 1350, 3)
    return picture


def count(picture, colour):
    return int((np.abs(picture - to_rgb(colour)).max(axis=-1) < 0.02).sum())


@pytest.mark.parametrize("epochs", [1, 60])
def test_every_curve_is_drawn(epochs):
    picture = draw([ROW | {"epoch": epoch, "train_loss": 1 / (epoch + 1)} for epoch in range(epochs)])

    assert min(count(picture, colour) for colour in (VERMILLION, BLUE, GREEN, ORANGE, SKY)) > 5


def test_time_is_split_in_proportion():
    """4 s of computation to 1 s of waiting; the legend and the mark of the best epoch add a little."""
    picture = draw([ROW | {"epoch": epoch} for epoch in range(5)])[420:]

    assert count(picture, SKY) / count(picture, ORANGE) == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize("key", ["epoch", "validation_dice", "data_s"])
def test_missing_key_and_none_are_alike(key):
    without = [{name: value for name, value in ROW.items() if name != key}] * 2

    np.testing.assert_array_equal(draw(without), draw([ROW | {key: None}] * 2))


def test_validation_every_other_epoch_is_one_line():
    rows = [ROW | {"epoch": e, "validation_dice": 0.1 * e if e % 2 else None} for e in range(9)]

    assert count(draw(rows), BLUE) > 200


@pytest.mark.parametrize("history", [[], [{}]])
def test_nothing_to_show_is_still_a_picture(history):
    assert 0.5 < draw(history).mean() < 1.0


def test_time_is_that_of_a_step_where_steps_are_known():
    """Twice the steps in twice the time are the same bar; an epoch without steps has none."""
    short, long = ROW | {"steps": 5}, ROW | {"steps": 10, "data_s": 2.0, "compute_s": 8.0, "epoch_s": 12.0}

    np.testing.assert_array_equal(draw([short] * 3)[420:, 675:], draw([long] * 3)[420:, 675:])
    assert not np.array_equal(draw([short] * 3)[420:, 675:], draw([ROW] * 3)[420:, 675:])
