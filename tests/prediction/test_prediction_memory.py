"""What fits where, in numbers worked by hand."""

import pytest
import torch

from autoseg.core.errors import MemoryShortageError
from autoseg.prediction.memory import choose_sum_device, free_bytes, images_per_call, window_bytes

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_bytes_of_sums_and_image():
    # 3 classes and the weights over 8 rows of 10 x 20, and 2 channels of 30 x 10 x 20: floats of 4 bytes.
    assert window_bytes(3, 2, (8, 10, 20), (30, 10, 20)) == 4 * (4 * 1600 + 2 * 6000)


def test_sums_lie_on_the_gpu_where_they_fit_beside_a_call():
    free = {"cuda": 1000, "cpu": 5000}
    assert choose_sum_device(600, GPU, free, reserve=200) == GPU
    assert choose_sum_device(601, GPU, free, reserve=200) == CPU
    assert choose_sum_device(600, CPU, free, reserve=0) == CPU


def test_too_little_memory_is_said_before_anything_is_computed():
    with pytest.raises(MemoryShortageError, match=r"needs 9.0 GB of memory on the network's grid, but 8.0 GB are free"):
        choose_sum_device(9 * 10**9, GPU, {"cuda": 10**9, "cpu": 8 * 10**9}, reserve=0)


def test_images_per_call():
    assert images_per_call(2**17, "cpu", image_bytes=0, free=0) == 2
    assert images_per_call(2**21, "cpu", image_bytes=0, free=0) == 1
    assert images_per_call(2**21, "cuda", image_bytes=10, free=1000) == 4  # what helps
    assert images_per_call(2**21, "cuda", image_bytes=400, free=1000) == 2  # what fits
    assert images_per_call(2**21, "cuda", image_bytes=4000, free=1000) == 1


def test_this_machine_has_free_memory():
    assert free_bytes(CPU) > 2**20
