"""Lesions of a mask as records and tables; volumes, centres and probabilities by hand."""

import numpy as np
import pytest

from autoseg.core.records import CaseLesions, Grid
from autoseg.reporting import describe_lesions, list_lesions, render_case_table, render_lesion_table

# Slices of 5 mm; the patient's left, back and head are where x, y and z grow.
GRID = Grid(shape=(6, 8, 10), spacing=(5.0, 2.0, 1.0), origin=(-10.0, 20.0, 100.0))
CLASSES = {"oedema": (1, (1,)), "core": (2, (2,))}


@pytest.fixture
def mask():
    """Oedema of two voxels at z 1, y 2, x 3 and 4, and one at z 5; no core."""
    found = np.zeros(GRID.shape, np.uint8)
    found[1, 2, 3:5] = 1
    found[5, 7, 9] = 1
    return found


@pytest.fixture
def shares():
    """Oedema has 0.6 everywhere but 0.8 in one of its voxels."""
    found = np.full((3, *GRID.shape), 0.2, np.float16)
    found[1] = 0.6
    found[1, 1, 2, 3] = 0.8
    return found


def test_volume_centre_and_probability(mask, shares):
    """A voxel is 0.01 ml; the first lesion's centre is half way between x = -10 + 3 and -10 + 4."""
    found = list_lesions(mask, shares, GRID, CLASSES)["oedema"]
    first, second = found.lesions

    assert (first.voxels, first.volume_ml) == (2, 0.02)
    assert first.centre == (-6.5, 24.0, 105.0)
    assert first.mean_probability == pytest.approx(0.7, abs=1e-3)
    assert (second.voxels, second.centre) == (1, (-1.0, 34.0, 125.0))
    assert found.volume_ml == 0.03
    assert found.mean_probability == pytest.approx((0.8 + 0.6 + 0.6) / 3, abs=1e-3)


def test_a_label_that_is_not_there_has_no_lesion(mask, shares):
    found = list_lesions(mask, shares, GRID, CLASSES)["core"]

    assert (found.volume_ml, found.mean_probability, found.lesions) == (0.0, None, ())


def test_regions_unite_their_values(mask, shares):
    mask[1, 2, 5] = 2
    found = list_lesions(mask, shares, GRID, {"whole": (1, (1, 2)), "core": (2, (2,))})

    assert [lesion.voxels for lesion in found["whole"].lesions] == [3, 1]
    assert [lesion.voxels for lesion in found["core"].lesions] == [1]


def test_an_oblique_grid_has_its_own_directions(mask, shares):
    """Array axes z, y and x run along the world's x, z and y."""
    turned = GRID.model_copy(update={"direction": ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0))})
    first = list_lesions(mask, shares, turned, CLASSES)["oedema"].lesions[0]

    assert first.centre == (-10 + 5.0, 20 + 3.5, 100 + 4.0)


def test_tables_have_a_row_per_label_and_per_lesion(mask, shares):
    labels = list_lesions(mask, shares, GRID, CLASSES)
    cases = [CaseLesions(case="a,b", model="m", labels=labels)]

    header, oedema, core = render_case_table(cases).splitlines()
    assert header == "case,label,lesions,volume_ml,largest_ml,mean_probability"
    assert oedema.startswith('"a,b",oedema,2,0.03,0.02,0.66')
    assert core == '"a,b",core,0,0.0,0.0,'
    header, first, second = render_lesion_table(cases).splitlines()
    assert header == (
        "case,label,lesion,volume_ml,voxels,centre_x_lps_mm,centre_y_lps_mm,centre_z_lps_mm,mean_probability,side"
    )
    assert first.startswith('"a,b",oedema,1,0.02,2,-6.5,24.0,105.0,0.')
    assert second.startswith('"a,b",oedema,2,0.01,1,-1.0,34.0,125.0,0.')


def test_lines_for_people(mask, shares):
    labels = list_lesions(mask, shares, GRID, CLASSES)
    mask[5] = 0

    assert describe_lesions(labels) == ["oedema:  2 lesions, 0.03 ml", "core:  0 lesions, 0 ml"]
    assert describe_lesions(list_lesions(mask, shares, GRID, CLASSES))[0] == "oedema:  1 lesion, 0.02 ml"
