"""Which voxels lie near an edge of the reference."""

import pytest
import torch

from autoseg.losses import LossContext
from autoseg.losses.boundary import find_edges


def edges_of(target, *, regions=(), ignore_label=None, channels=2, radius=1, in_plane=False, per_class=False):
    """(J,*spatial) of the only sample."""
    labels = torch.tensor(target, dtype=torch.int16)[None]
    context = LossContext(
        logits=torch.empty((1, channels, 1, 1)), target=labels, regions=regions, ignore_label=ignore_label
    )
    return find_edges(context, radius, in_plane=in_plane, per_class=per_class)[0].int()


LINE = [[0, 0, 0, 1, 1, 1, 1, 1, 0]]


def test_an_edge_is_dilation_without_erosion():
    assert edges_of(LINE).tolist() == [[[0, 0, 1, 1, 0, 0, 0, 1, 1]]]
    assert edges_of(LINE, radius=2).tolist() == [[[0, 1, 1, 1, 1, 0, 1, 1, 1]]]


def test_the_cube_reaches_its_corners():
    target = torch.zeros((5, 5, 5), dtype=torch.int16)
    target[2, 2, 2] = 1
    near = edges_of(target.tolist())[0]
    assert near.sum() == 27
    assert near[1:4, 1:4, 1:4].all()


def test_in_plane_it_is_flat_along_the_first_axis():
    target = torch.zeros((5, 5, 5), dtype=torch.int16)
    target[2, 2, 2] = 1
    near = edges_of(target.tolist(), in_plane=True)[0]
    assert near.sum() == 9
    assert near[2, 1:4, 1:4].all()


def test_in_plane_says_nothing_of_two_axes():
    target = [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert edges_of(target, in_plane=True).sum() == 9


def test_the_border_of_the_patch_is_no_edge():
    assert not edges_of([[1, 1, 1], [1, 1, 1]]).any()
    assert not edges_of([[0, 0, 0], [0, 0, 0]]).any()


def test_ignored_voxels_make_no_edge():
    # Lesion beside ignored beside background: neither sees the other within one voxel.
    assert not edges_of([[1, 1, 9, 0, 0]], ignore_label=9).any()
    # Within two they do, but the ignored voxel between them is never near.
    assert edges_of([[1, 1, 9, 0, 0]], ignore_label=9, radius=2).tolist() == [[[0, 1, 0, 1, 0]]]


def test_between_two_labels_there_is_an_edge_per_class_only():
    target = [[0, 0, 1, 1, 2, 2]]
    assert edges_of(target, channels=3).tolist() == [[[0, 1, 1, 0, 0, 0]]]
    assert edges_of(target, channels=3, per_class=True).tolist() == [
        [[0, 1, 1, 0, 0, 0]],
        [[0, 1, 1, 1, 1, 0]],
        [[0, 0, 0, 1, 1, 0]],
    ]


def test_regions_have_edges_of_their_union_or_their_own():
    target = [[0, 0, 1, 1, 2, 2, 3]]  # 3 is in no region
    regions = ((1, 2), (2,))
    assert edges_of(target, regions=regions).tolist() == [[[0, 1, 1, 0, 0, 1, 1]]]
    assert edges_of(target, regions=regions, per_class=True).tolist() == [
        [[0, 1, 1, 0, 0, 1, 1]],
        [[0, 0, 0, 1, 1, 1, 1]],
    ]


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_it_is_the_same_as_comparing_with_every_neighbour(radius):
    target = (torch.rand((8, 9, 10), generator=torch.Generator().manual_seed(3)) > 0.97).to(torch.int16)
    found = edges_of(target.tolist(), radius=radius)[0]
    for place in torch.cartesian_prod(*(torch.arange(n) for n in target.shape)).tolist():
        window = target[tuple(slice(max(0, i - radius), i + radius + 1) for i in place)]
        assert found[tuple(place)] == (0 < window.sum() < window.numel())
