import numpy as np
import pytest
import torch
from scipy import ndimage

from autoseg.core.records import TilingSettings
from autoseg.prediction import gaussian_weight, predict_logits, tile_starts
from autoseg.prediction.tiles import mirror_combinations

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)


def run(network, image, tile, **changes):
    return predict_logits([network], image, TilingSettings(tile_size=tile, **changes), outputs=2, device=CPU)


def constant(x):
    return [torch.stack([torch.full_like(x[:, 0], 3.0), torch.full_like(x[:, 0], -1.0)], dim=1)]


def pointwise(x):
    return [torch.cat([x, 2 * x + 1], dim=1)]


def test_tiles_reach_from_end_to_end_with_at_most_half_a_tile_between():
    assert tile_starts(10, 10, 0.5) == (0,)
    assert tile_starts(11, 10, 0.5) == (0, 1)
    assert tile_starts(240, 128, 0.5) == (0, 56, 112)
    for size in range(8, 60):
        starts = tile_starts(size, 8, 0.5)
        assert starts[0] == 0
        assert starts[-1] == size - 8
        assert max(np.diff(starts), default=0) <= 4 + 1


def test_weight_is_one_in_the_middle_and_never_zero():
    weight = gaussian_weight((9, 5, 32), 0.125)
    assert weight[4, 2, 16] == weight.max() == 1
    assert weight[4, 2, 15] == weight[4, 2, 17] < 1
    assert weight.min() > 0
    assert weight[4, 2, 16] / weight[3, 2, 16] == pytest.approx(np.exp(0.5 / (9 / 8) ** 2), rel=1e-5)


@pytest.mark.parametrize("tile", [(8, 20), (5, 12, 7), (64, 32)])
def test_weight_is_a_filtered_point(tile):
    point = np.zeros(tile)
    point[tuple(size // 2 for size in tile)] = 1
    theirs = ndimage.gaussian_filter(point, [size / 8 for size in tile], mode="constant")
    assert np.allclose(gaussian_weight(tile, 0.125), theirs / theirs.max(), rtol=1e-5, atol=1e-12)


def test_mirrors_of_three_axes():
    assert mirror_combinations((0, 1, 2)) == ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))


@pytest.mark.parametrize("tile", [(4, 6, 8), (16, 6, 8), (8, 8)])
@pytest.mark.parametrize("mirror", [(), (0, 1)])
def test_tiles_over_a_constant_give_the_constant(tile, mirror):
    logits = run(constant, RNG.normal(size=(1, 10, 20, 30)), tile, mirror_axes=mirror)
    assert logits.shape == (2, 10, 20, 30)
    assert np.allclose(logits[0], 3)
    assert np.allclose(logits[1], -1)


@pytest.mark.parametrize("tile", [(4, 6, 8), (8, 24, 16), (16, 32, 32), (8, 8), (32, 32)])
@pytest.mark.parametrize("step", [0.5, 0.25, 1.0])
def test_a_pointwise_network_is_reproduced_whatever_the_tiles(tile, step):
    image = RNG.normal(size=(1, 10, 20, 30)).astype(np.float32)
    logits = run(pointwise, image, tile, step=step, mirror_axes=(0, 1))
    assert np.allclose(logits[0], image[0], atol=1e-5)
    assert np.allclose(logits[1], 2 * image[0] + 1, atol=1e-5)


def test_a_tile_as_large_as_the_image_is_one_forward_pass():
    torch.manual_seed(0)
    convolution = torch.nn.Conv3d(1, 2, 3, padding=1)
    image = RNG.normal(size=(1, 8, 12, 16)).astype(np.float32)
    logits = run(lambda x: [convolution(x)], image, (8, 12, 16))
    with torch.no_grad():
        assert np.allclose(logits, convolution(torch.from_numpy(image)[None])[0].numpy(), atol=1e-5)


def test_mirroring_commutes_with_flipping_the_scan():
    torch.manual_seed(0)
    convolution = torch.nn.Conv3d(1, 2, 3, padding=1)
    image = RNG.normal(size=(1, 8, 12, 16)).astype(np.float32)
    settings = {"mirror_axes": (0, 1, 2)}
    plain = run(lambda x: [convolution(x)], image, (8, 12, 16), **settings)
    flipped = run(lambda x: [convolution(x)], image[:, ::-1, :, ::-1].copy(), (8, 12, 16), **settings)
    assert np.allclose(plain[:, ::-1, :, ::-1], flipped, atol=1e-5)


def test_folds_are_averaged_and_none_is_changed():
    image = np.ones((1, 4, 4, 4), np.float32)
    kept = torch.zeros(1, 2, 4, 4, 4)
    networks = [lambda x: [kept], constant]
    logits = predict_logits(networks, image, TilingSettings(tile_size=(4, 4, 4)), outputs=2, device=CPU)
    assert np.allclose(logits[0], 1.5)
    assert not kept.any()


def test_two_axis_tiles_never_look_at_other_slices():
    seen = []

    def note(x):
        seen.append(tuple(x.shape))
        return constant(x)

    run(note, np.zeros((1, 5, 20, 30)), (8, 8))
    assert all(shape[1:] == (1, 8, 8) for shape in seen)
    assert sum(shape[0] for shape in seen) == 5 * 4 * 7


def test_progress_counts_tiles():
    calls = []
    predict_logits(
        [constant],
        np.zeros((1, 8, 8, 8)),
        TilingSettings(tile_size=(4, 4, 4)),
        outputs=2,
        device=CPU,
        progress=lambda done, total, what: calls.append((done, total)),
    )
    assert calls[-1] == (27, 27)
