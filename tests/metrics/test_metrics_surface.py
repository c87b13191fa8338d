"""Surface distances worked by hand, in mm, on an anisotropic grid of (z,y,x) spacing (3, 1, 2)."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from autoseg.metrics import METRICS, compare
from autoseg.metrics.comparison import find_surface
from autoseg.metrics.surface import normalized_surface_dice

SPACING = (3.0, 1.0, 2.0)
SHAPE = (10, 20, 30)


def voxels(*places):
    mask = np.zeros(SHAPE, bool)
    mask[tuple(np.array(places).T)] = True
    return mask


@pytest.mark.parametrize("name", ["hd95", "hd95_pooled", "assd"])
@pytest.mark.parametrize(("axis", "expected"), [(0, 2 * 3.0), (1, 2 * 1.0), (2, 2 * 2.0)])
def test_two_single_voxels_are_as_far_apart_as_the_spacing_says(name, axis, expected):
    place = [4, 4, 4]
    place[axis] += 2

    assert METRICS[name](compare(voxels((4, 4, 4)), voxels(place), SPACING)) == pytest.approx(expected)


def test_diagonal_distance_is_euclidean():
    comparison = compare(voxels((1, 1, 1)), voxels((2, 5, 7)), SPACING)

    assert METRICS["hd95"](comparison) == pytest.approx(13.0)  # 3, 4, 12 mm


def test_equal_masks_are_zero_mm_apart():
    mask = voxels((1, 2, 3), (1, 2, 4), (8, 19, 29))

    assert [METRICS[name](compare(mask, mask, SPACING)) for name in ("hd95", "hd95_pooled", "assd")] == [0, 0, 0]


def test_shifted_cube():
    """A 3x3x3 cube and the same one voxel (1 mm) further along y.

    All 27 voxels but the centre are surface. The 9 of the trailing face are 1 mm from the other cube, and the 1 voxel
    that lies on the other's hidden centre is 1 mm from its surface too; the other 16 coincide.
    """
    prediction, reference = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    reference[3:6, 3:6, 3:6] = prediction[3:6, 4:7, 3:6] = True
    comparison = compare(prediction, reference, SPACING)

    assert [sorted(directed.tolist()) for directed in comparison.distances] == [[0.0] * 16 + [1.0] * 10] * 2
    assert METRICS["assd"](comparison) == pytest.approx(20 / 52)
    assert METRICS["hd95"](comparison) == pytest.approx(1.0)


def test_the_two_variants_of_hd95_differ():
    """Reference: 1 voxel. Prediction: that voxel and another 10 mm away along y.

    Prediction to reference: 0 and 10 mm, 95th percentile 9.5. Reference to prediction: 0. The larger is 9.5.
    Pooled: 0, 0, 10 mm; the 95th percentile lies at rank 0.95 * 2 = 1.9, so 0.9 of the way from 0 to 10 mm.
    """
    comparison = compare(voxels((5, 2, 5), (5, 12, 5)), voxels((5, 2, 5)), SPACING)

    assert METRICS["hd95"](comparison) == pytest.approx(9.5)
    assert METRICS["hd95_pooled"](comparison) == pytest.approx(9.0)
    assert METRICS["assd"](comparison) == pytest.approx(10 / 3)


def test_hd95_is_symmetric():
    one, other = voxels((5, 2, 5), (5, 12, 5)), voxels((5, 2, 5))

    assert METRICS["hd95"](compare(one, other, SPACING)) == METRICS["hd95"](compare(other, one, SPACING))


def test_distances_equal_all_pairs():
    generator = np.random.default_rng(3)
    prediction, reference = generator.random((2, 6, 7, 8)) > 0.8
    comparison = compare(prediction, reference, SPACING)
    points = [np.argwhere(find_surface(np.pad(mask, 1))) * SPACING for mask in (prediction, reference)]
    pairs = cdist(*points)

    np.testing.assert_allclose(comparison.distances[0], pairs.min(axis=1), rtol=1e-6)
    np.testing.assert_allclose(comparison.distances[1], pairs.min(axis=0), rtol=1e-6)


def test_nsd_counts_surface_voxels_within_tau():
    """Distances 0 and 3 mm one way (1 voxel along z), 0 the other: 2 of 3 within 2 mm, all within 3 mm."""
    comparison = compare(voxels((5, 5, 5), (6, 5, 5)), voxels((5, 5, 5)), SPACING)

    assert METRICS["nsd_2mm"](comparison) == pytest.approx(2 / 3)
    assert normalized_surface_dice(3.0)(comparison) == 1.0


def test_nsd_includes_tau_itself_for_any_spacing():
    comparison = compare(voxels((5, 0, 5)), voxels((5, 19, 5)), (1.0, 0.1, 1.0))

    assert normalized_surface_dice(1.9)(comparison) == 1.0
    assert normalized_surface_dice(1.8)(comparison) == 0.0


def test_nsd_is_named_after_its_tolerance():
    assert normalized_surface_dice(1.5).name == "nsd_1.5mm"


def test_surface_is_the_voxels_with_a_face_neighbour_outside():
    solid = np.zeros((5, 5, 5), bool)
    solid[1:4, 1:4, 1:4] = True
    with_lost_corner = solid.copy()
    with_lost_corner[1, 1, 1] = False

    assert find_surface(solid).sum() == 26
    assert not find_surface(with_lost_corner)[2, 2, 2]  # a corner is no face neighbour


def test_the_edge_of_the_grid_counts_as_outside():
    """A mask that fills the grid has the 26 outer voxels as its surface, 1 voxel from the centre."""
    full, centre = np.ones((3, 3, 3), bool), np.zeros((3, 3, 3), bool)
    centre[1, 1, 1] = True

    prediction_to_reference, reference_to_prediction = compare(full, centre, (1.0, 1.0, 1.0)).distances

    assert len(prediction_to_reference) == 26
    assert reference_to_prediction.tolist() == [1.0]


def test_outlines_within_slices():
    """A 3x3x3 cube against one of its voxels: in a slice the cube's outline is its 8 outer voxels, so the hidden one of
    the middle slice is not asked, and neither are the centres of the outer slices, which are surface in 3D.
    """
    cube, centre = np.zeros(SHAPE, bool), voxels((5, 5, 5))
    cube[4:7, 4:7, 4:7] = True
    cube_to_centre, centre_to_cube = compare(cube, centre, SPACING).in_plane_distances

    assert len(cube_to_centre) == 24
    assert centre_to_cube.tolist() == [1.0]
    assert METRICS["hd95_in_plane"](compare(cube, centre, SPACING)) == pytest.approx(14**0.5)  # 3, 1, 2 mm


def test_both_ways_to_distances_are_the_same(monkeypatch):
    """A tree of points, and a transform of the box."""
    generator = np.random.default_rng(5)
    prediction, reference = generator.random((2, 6, 7, 8)) > 0.8
    found = []
    for pairs in (0, 10**9):
        monkeypatch.setattr("autoseg.metrics.comparison.PAIRS_PER_VOXEL", pairs)
        found.append(compare(prediction, reference, SPACING).distances)

    for transform, tree in zip(*found, strict=True):
        np.testing.assert_allclose(tree, transform, rtol=1e-6)
        assert not np.array_equal(tree, transform)  # single and double precision: they were not the same way
