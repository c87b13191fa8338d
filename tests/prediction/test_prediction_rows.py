"""Rows that are final come out early, tiles that hold nothing are left out, and memory follows the tile's height."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from autoseg.core.records import Outputs, TilingSettings
from autoseg.prediction import predict_logits, predict_rows
from autoseg.prediction.case import CERTAIN, background_logits
from autoseg.prediction.sliding import ROWS, count_calls, middle_tile
from autoseg.prediction.tiles import is_featureless

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
BACKGROUND = (CERTAIN, -CERTAIN)


class Counting:
    """A convolution with a wide reach, which counts the tiles it sees."""

    def __init__(self, dimensions=3):
        torch.manual_seed(0)
        kind = torch.nn.Conv3d if dimensions == 3 else torch.nn.Conv2d
        self.layer, self.tiles = kind(1, 2, 5, padding=2), 0

    def __call__(self, x):
        self.tiles += len(x)
        return [self.layer(x)]


def head(shape=(20, 40, 36), at=(8, 12, 10), size=(6, 9, 8), outside=0.0):
    """A small head of noise in a volume that is constant elsewhere; and where the head is."""
    image = np.full((1, *shape), outside, np.float32)
    box = tuple(slice(a, a + n) for a, n in zip(at, size, strict=True))
    image[(0, *box)] = RNG.normal(size=size)
    return image, box


@pytest.mark.parametrize("tile", [(8, 8, 12), (8, 12)])
@pytest.mark.parametrize("outside", [0.0, -0.7])
def test_tiles_without_head_are_left_out_and_no_voxel_of_the_head_notices(tile, outside):
    image, box = head(outside=outside)
    settings = TilingSettings(tile_size=tile, mirror_axes=(0, 1))
    all_tiles, fewer = Counting(len(tile)), Counting(len(tile))
    whole = predict_logits([all_tiles], image, settings, outputs=2, device=CPU)
    found = predict_logits([fewer], image, settings, outputs=2, device=CPU, background=BACKGROUND)
    assert fewer.tiles < all_tiles.tiles / 2
    around = tuple(slice(part.start - 1, part.stop + 1) for part in box)  # the head, and the voxels beside it
    assert np.array_equal(found[(slice(None), *around)], whole[(slice(None), *around)])
    nobody = found[0] == CERTAIN
    assert np.all(found[1][nobody] == -CERTAIN)
    assert nobody[-1, -8:, -8:].all()


def test_a_scan_without_background_loses_no_tile():
    image = RNG.normal(size=(2, 12, 20, 16)).astype(np.float32)
    image[0] = 0  # one channel alone may be empty
    network = torch.nn.Conv3d(2, 2, 3, padding=1)
    settings = TilingSettings(tile_size=(8, 8, 8))
    logits = [
        predict_logits([lambda x: [network(x)]], image, settings, outputs=2, device=CPU, background=background)
        for background in (None, BACKGROUND)
    ]
    assert np.array_equal(*logits)


def test_a_scan_that_holds_nothing_is_background_and_calls_no_network():
    network = Counting()
    rows = predict_logits(
        [network],
        np.zeros((1, 9, 10, 11)),
        TilingSettings(tile_size=(8, 8, 8)),
        outputs=2,
        device=CPU,
        background=BACKGROUND,
    )
    assert network.tiles == 0
    assert np.all(rows[0] == CERTAIN)
    assert np.all(rows[1] == -CERTAIN)


def test_a_tile_counts_as_nothing_only_if_the_voxels_beside_it_are_nothing_too():
    image = np.zeros((2, 12, 12, 12), np.float32)
    assert is_featureless(image, (2, 2, 2), (4, 4, 4))
    image[1, 6, 3, 3] = 1  # just below the tile
    assert not is_featureless(image, (2, 2, 2), (4, 4, 4))
    assert not is_featureless(image, (3, 2, 2), (4, 4, 4))
    assert is_featureless(image, (1, 2, 2), (4, 4, 4))
    image[1, 6, 3, 3] = 5e-4  # what a spline leaves far from an edge
    assert is_featureless(image, (3, 2, 2), (4, 4, 4))


def test_where_no_network_is_asked_background_wins_for_classes_and_no_region_is_painted():
    classes = Outputs.of({"background": 0, "core": 1, "rim": 2}, {}, None)
    regions = Outputs.of({"background": 0, "core": 1, "rim": 2}, {"whole": (1, 2), "core": (1,)}, None)
    assert background_logits(classes) == (CERTAIN, -CERTAIN, -CERTAIN)
    assert background_logits(regions) == (-CERTAIN, -CERTAIN)


@pytest.mark.parametrize("tile", [(8, 16, 12), (16, 12), (64, 16, 12)])
def test_rows_come_in_order_a_few_at_a_time(tile):
    image = RNG.normal(size=(1, 50, 20, 18)).astype(np.float32)
    settings = TilingSettings(tile_size=tile)
    rows = list(predict_rows([Counting(len(tile))], image, settings, outputs=2, device=CPU))
    assert all(part.shape[0] == 2 and part.shape[2:] == (20, 18) and 1 <= part.shape[1] <= ROWS for part in rows)
    assert sum(part.shape[1] for part in rows) == 50
    whole = predict_logits([Counting(len(tile))], image, settings, outputs=2, device=CPU)
    assert np.array_equal(np.concatenate(rows, axis=1), whole)


def test_sums_that_move_on_give_what_sums_over_the_whole_volume_give():
    """The textbook way: all tiles into one large sum, then one division."""
    image = RNG.normal(size=(1, 30, 12, 10)).astype(np.float32)
    network = Counting()
    settings = TilingSettings(tile_size=(8, 8, 8))
    found = predict_logits([network], image, settings, outputs=2, device=CPU)
    total, counted = np.zeros((2, 30, 12, 10)), np.zeros((30, 12, 10))
    steps = [np.exp(-0.5 * ((np.arange(8) - 4) / 1.0) ** 2)] * 3
    weight = np.einsum("i,j,k->ijk", *steps)
    for z in (0, 4, 7, 11, 15, 18, 22):
        for y in (0, 4):
            for x in (0, 2):
                box = (slice(z, z + 8), slice(y, y + 8), slice(x, x + 8))
                with torch.no_grad():
                    logits = network.layer(torch.from_numpy(image[(slice(None), *box)])[None])[0].numpy()
                total[(slice(None), *box)] += logits * weight
                counted[box] += weight
    assert np.allclose(found, total / counted, atol=1e-4)


def test_calls_are_counted_as_they_are_made():
    network = Counting()
    settings = TilingSettings(tile_size=(8, 8, 8), mirror_axes=(0, 2))
    predict_logits([network], RNG.normal(size=(1, 20, 12, 8)), settings, outputs=2, device=CPU)
    assert network.tiles == count_calls((20, 12, 8), settings, networks=1)


def test_the_middle_tile_is_the_middle():
    image = np.arange(6 * 8 * 10, dtype=np.float32).reshape(1, 6, 8, 10)
    assert np.array_equal(middle_tile(image, TilingSettings(tile_size=(2, 4, 4))), image[:, 2:4, 2:6, 3:7])
    assert np.array_equal(middle_tile(image, TilingSettings(tile_size=(4, 4))), image[:, 2, 2:6, 3:7])


MEASURE = """
import sys
import numpy as np
import torch
from autoseg.core.records import ChannelNormalization, Grid, Placement, PreprocessingSettings, TilingSettings
from autoseg.prediction import predict_rows
from autoseg.preprocessing import LogitRestorer

def peak():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) * 1024

classes, shape = int(sys.argv[1]), (512, 64, 64)
image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
torch.manual_seed(0)
network = torch.nn.Conv3d(1, classes, 1)
settings = PreprocessingSettings(spacing=(1, 1, 1), channels=(ChannelNormalization(),))
placement = Placement(
    grid=Grid(shape=(640, 80, 80), spacing=(0.8, 0.8, 0.8)), transpose=(0, 1, 2), flips=(False,) * 3,
    crop=((0, 640), (0, 80), (0, 80)), cropped_spacing=(0.8, 0.8, 0.8), shape=shape,
)
before = peak()
restorer = LogitRestorer(placement, settings, values=range(classes), overlap=False)
tiling = TilingSettings(tile_size=(32, 64, 64), step=1.0)
for rows in predict_rows([lambda x: [network(x)]], image, tiling, outputs=classes, device=torch.device("cpu")):
    restorer.add(rows)
assert restorer.finish().voxels.max() >= classes / 2
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_the_logits_of_a_whole_volume_are_never_held():
    few, many = (
        int(subprocess.run([sys.executable, "-c", MEASURE, str(n)], check=True, capture_output=True, text=True).stdout)
        for n in (2, 34)
    )
    volume = 32 * 512 * 64 * 64 * 4  # of the 32 classes more, on the network's grid; 268 MB
    tile = volume / 16
    # A tile's logits as they come, in the convolution's own order, in the window where they are summed, and on their
    # way out.
    assert many - few < 7 * tile < volume / 2
