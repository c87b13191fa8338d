"""The picture of a case: it decodes, has a sensible size, and shows what is right and what is wrong."""

import io
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from autoseg.reporting import draw_case
from autoseg.reporting.canvas import BLUE, GREEN, SKY, VERMILLION, YELLOW
from autoseg.reporting.cases import _write_scores, classify_voxels
from autoseg.reporting.slices import choose_axis, choose_slices, cut_slices, find_field

SPACING = (5.0, 1.0, 2.0)
SHAPE = (10, 40, 30)


@pytest.fixture
def scan():
    """A bright head in a dark field, with two channels."""
    image = np.zeros((2, *SHAPE), np.float32)
    image[:, 1:9, 5:35, 4:26] = 100 + np.random.default_rng(0).normal(size=(2, 8, 30, 22)) * 10
    return image


def lesion(z=5, y=slice(15, 21), x=slice(10, 16), value=1):
    mask = np.zeros(SHAPE, np.uint8)
    mask[z, y, x] = value
    return mask


def draw(scan, reference, prediction, **more):
    png = draw_case(scan, reference, prediction, spacing=SPACING, channels=("DWI", "ADC"), title="case", **more)
    assert png.startswith(b"\x89PNG")
    return imread(io.BytesIO(png))[..., :3]


def shows(picture, colour):
    return bool((np.abs(picture - to_rgb(colour)).max(axis=-1) < 0.06).any())


def test_picture_has_a_sensible_size_and_a_scan_in_it(scan):
    picture = draw(scan, lesion(), lesion())

    assert 400 < picture.shape[0] < 3000
    assert 800 < picture.shape[1] < 3000
    assert picture.std() > 0.1
    assert picture[0, 0].tolist() == [0, 0, 0]


def legend_cut(picture):
    """The panels alone: title and legend cover the top 110 rows."""
    return picture[110:]


def test_agreement_and_both_errors_have_their_colours(scan):
    panels = legend_cut(draw(scan, lesion(), lesion(x=slice(13, 19))))

    assert shows(panels, YELLOW)
    assert shows(panels, GREEN)
    assert shows(panels, VERMILLION)
    assert shows(panels, SKY)


def test_equal_masks_show_no_error(scan):
    panels = legend_cut(draw(scan, lesion(), lesion()))

    assert shows(panels, GREEN)
    assert not shows(panels, VERMILLION)
    assert not shows(panels, SKY)


def test_wrong_label_is_its_own_colour(scan):
    assert shows(legend_cut(draw(scan, lesion(value=1), lesion(value=2))), BLUE)


def test_empty_masks_show_the_scan_alone(scan):
    picture = draw(scan, lesion() * 0, lesion() * 0, scores={"lesion": {"dice": None}})

    assert legend_cut(picture).max() > 0.5
    assert not shows(legend_cut(picture), YELLOW)


def test_empty_reference_shows_where_the_prediction_is(scan):
    assert shows(legend_cut(draw(scan, lesion() * 0, lesion())), VERMILLION)


def test_empty_prediction_shows_what_was_missed(scan):
    assert shows(legend_cut(draw(scan, lesion(), lesion() * 0)), SKY)


def test_without_reference_there_are_two_panels_less(scan):
    with_reference, without = draw(scan, lesion(), lesion()), draw(scan, None, lesion())

    assert without.shape[1] < 0.7 * with_reference.shape[1]
    assert shows(without, YELLOW)
    assert not shows(without, GREEN)


def test_same_case_gives_the_same_bytes(scan):
    pictures = {draw_case(scan, lesion(), lesion(), spacing=SPACING, channels=("a", "b"), title="t") for _ in range(2)}

    assert len(pictures) == 1


def test_constant_scan_is_drawn():
    assert draw(np.ones((2, *SHAPE), np.float32), lesion(), lesion()).shape[2] == 3


def test_scores_are_written_with_their_units():
    assert _write_scores({"dice": 0.256, "hd95": 2.0, "iou": None}) == ["dice 0.26   hd95 2.00 mm   iou undefined"]
    assert _write_scores({"core": {"dice": 1.0}, "edge": {"dice": 0.0}}) == ["core:  dice 1.00", "edge:  dice 0.00"]


def test_voxels_are_classified():
    prediction, reference = np.array([0, 1, 1, 0, 1]), np.array([0, 1, 0, 2, 2])

    assert classify_voxels(prediction, reference).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [((5.0, 1.0, 1.0), 0), ((1.0, 5.0, 1.0), 1), ((1.0, 1.0, 5.0), 2), ((1.0, 1.0, 1.0), 0), ((1.0, 1.0, 1.1), 0)],
)
def test_slices_are_cut_along_the_coarsest_axis_or_the_first(spacing, axis):
    assert choose_axis(spacing) == axis


def test_slices_with_most_lesion_come_first_and_apart():
    """Areas 0, 9, 8, 0, 3, 2: with 5 mm slices two must lie between."""
    lesions = np.zeros((6, 1, 9), bool)
    for index, area in enumerate((0, 9, 8, 0, 3, 2)):
        lesions[index, 0, :area] = True

    assert choose_slices(lesions, 5.0, limit=3) == (4, 1)
    assert choose_slices(lesions, 5.0, limit=1) == (1,)
    assert choose_slices(lesions * False, 5.0, limit=3) == (3,)


@pytest.mark.parametrize(
    ("spacing", "corner"),
    [((5.0, 1.0, 2.0), (0, 0)), ((1.0, 5.0, 2.0), (-1, 0)), ((1.0, 2.0, 5.0), (-1, 0))],
)
def test_front_and_head_are_up(spacing, corner):
    """The voxel lowest, most anterior and rightmost is at the top left of an axial slice, else at the bottom left."""
    mask = np.zeros((12, 12, 12), np.uint8)
    mask[0, 0, 0] = 1
    slices = cut_slices(np.ones((1, 12, 12, 12)) * np.arange(12), mask, mask, spacing, limit=1)

    assert slices.prediction[0][corner] == 1
    assert slices.pixel == tuple(mm for mm in spacing if mm != 5.0)


def test_picture_is_cropped_to_the_head_and_all_lesions(scan):
    outside = lesion(y=slice(0, 1), x=slice(0, 1))
    narrow = cut_slices(scan, lesion(), lesion(), SPACING, limit=3)
    wide = cut_slices(scan, lesion(), outside, SPACING, limit=3)

    assert narrow.prediction.shape[1:] == (30 + 2 * 4, 22 + 2 * 2)  # 4 mm more on each side
    assert wide.prediction.sum() == 1


def test_small_lesions_are_magnified_and_large_ones_are_not():
    mask = np.zeros((100, 200), bool)
    mask[40:44, 196:199] = True
    field = find_field(mask, (1.0, 1.0))

    assert field == ((27, 57), (140, 200))  # 30 mm high, in the slice's own proportions, inside the slice
    mask[5, 5] = True
    assert find_field(mask, (1.0, 1.0)) is None
    assert find_field(mask * False, (1.0, 1.0)) is None


def test_matplotlib_waits_until_a_picture_is_drawn():
    code = "import sys, autoseg.reporting; sys.exit('matplotlib' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
