"""Channels by name, and kernels that keep their answer."""

import pytest
import torch
from torch.nn import functional

from autoseg.transfer.kernels import adapt_channels, fit_kernel, match_channels


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_channels_are_matched_by_name_whatever_their_case_order_and_exact_aliases():
    assert match_channels(("FLAIR", "T1w"), ("t1", "Flair", "DWI")) == {"t1": 1, "Flair": 0, "DWI": None}
    assert match_channels(("T1",), ("T1ce", "T2")) == {"T1ce": None, "T2": None}  # contrast-enhanced is another image
    assert match_channels(("T2-FLAIR",), ("flair", "T2")) == {"flair": 0, "T2": None}


def test_a_channel_without_partner_takes_the_scaled_mean():
    kernel = torch.tensor([[[1.0], [3.0]]])  # one output, two channels, one voxel
    adapted = adapt_channels(kernel, {"a": 1, "b": None, "c": None, "d": None}, 1)
    assert adapted.flatten().tolist() == [3.0, 1.0, 1.0, 1.0]  # mean 2, times 2/4


def test_all_unmatched_channels_answer_equal_images_as_before():
    kernel, image = random(4, 3, 3, 3, 3), random(1, 1, 6, 6, 6)
    adapted = adapt_channels(kernel, {"x": None, "y": None}, 1)
    before = functional.conv3d(image.expand(1, 3, 6, 6, 6), kernel)
    assert torch.allclose(functional.conv3d(image.expand(1, 2, 6, 6, 6), adapted), before)


def test_an_inflated_kernel_answers_a_constant_stack_as_the_slice_was_answered():
    kernel, plane = random(4, 2, 3, 3), random(1, 2, 7, 8)
    inflated = fit_kernel(kernel, (3, 3, 3), transposed=False)
    found = functional.conv3d(plane[:, :, None].expand(1, 2, 5, 7, 8), inflated)
    assert torch.allclose(found, functional.conv2d(plane, kernel)[:, :, None].expand_as(found))


def test_a_flat_kernel_is_an_exact_copy_both_ways():
    kernel = random(4, 2, 3, 3)
    flat = fit_kernel(kernel, (1, 3, 3), transposed=False)
    assert torch.equal(flat[:, :, 0], kernel)
    assert torch.equal(fit_kernel(flat, (3, 3), transposed=False), kernel)


def test_inflation_and_its_inverse_give_the_kernel_back():
    kernel = random(4, 2, 3, 3)
    there = fit_kernel(kernel, (3, 3, 3), transposed=False)
    assert torch.allclose(fit_kernel(there, (3, 3), transposed=False), kernel)


def test_an_inflated_transposed_convolution_repeats_its_answer():
    kernel, plane = random(3, 2, 2, 2), random(1, 3, 4, 5)
    inflated = fit_kernel(kernel, (2, 2, 2), transposed=True)
    found = functional.conv_transpose3d(plane[:, :, None].expand(1, 3, 2, 4, 5), inflated, stride=2)
    expected = functional.conv_transpose2d(plane, kernel, stride=2)
    assert torch.allclose(found, expected[:, :, None].expand_as(found))
    assert torch.allclose(fit_kernel(inflated, (2, 2), transposed=True), kernel)


def test_a_larger_kernel_keeps_every_answer_and_a_smaller_one_its_centre():
    kernel, image = random(2, 1, 3, 3, 3), random(1, 1, 9, 9, 9)
    larger = fit_kernel(kernel, (5, 5, 5), transposed=False)
    found, expected = functional.conv3d(image, larger, padding=2), functional.conv3d(image, kernel, padding=1)
    assert torch.allclose(found, expected)
    assert torch.equal(fit_kernel(larger, (3, 3, 3), transposed=False), kernel)


@pytest.mark.parametrize(("size", "transposed"), [((2, 2, 2), False), ((3, 3, 4), True), ((3,), False)])
def test_what_has_no_sensible_way_is_left(size, transposed):
    assert fit_kernel(random(2, 2, 3, 3, 3), size, transposed=transposed) is None
