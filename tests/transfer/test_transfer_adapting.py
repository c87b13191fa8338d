"""What begins as in the source, and what is refused."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from autoseg.core.errors import ModelError
from autoseg.core.records import NetworkSettings
from autoseg.networks import build_network, find_parts
from autoseg.transfer.adapting import (
    SourceModel,
    adapt_channels,
    adapt_weights,
    check_share,
    describe_report,
    fit_kernel,
    match_channels,
)


def settings(dimensions=3, name="unet", **changes):
    ones, twos, threes = ((n,) * dimensions for n in (1, 2, 3))
    stages = {"features": (4, 8), "kernels": (threes, threes), "strides": (ones, twos)}
    return NetworkSettings(name=name, encoder_blocks=(1, 1), decoder_blocks=(1,), **{**stages, **changes})


def make(network, channels, outputs, seed=0):
    dimensions = len(network.kernels[0])
    counts = {"dimensions": dimensions, "input_channels": channels, "output_channels": outputs}
    return build_network(network, seed=seed, **counts), find_parts(network, **counts)


def give(network, channels, outputs, **changes):
    built, _ = make(network, len(channels), outputs, seed=1)
    return SourceModel(
        **{
            "name": "source", "weights": built.state_dict(), "channels": channels, "outputs": outputs,
            "overlap": False, **changes,
        }
    )  # fmt: skip


def adapt(source, network, channels, outputs=2, overlap=False):
    built, parts = make(network, len(channels), outputs)
    return adapt_weights(
        source, built, parts, configuration="3d_transfer", channels=channels, outputs=outputs, overlap=overlap
    )


def test_the_same_network_is_loaded_to_the_last_parameter():
    source = give(settings(), ("T1", "FLAIR"), 2)
    found = adapt(source, settings(), ("t1w", "flair"))
    assert (found.report.loaded, found.report.adapted, found.report.random) == (1, 0, 0)
    assert all(torch.equal(found.weights[name], tensor) for name, tensor in source.weights.items())
    assert found.report.channels == {"t1w": "T1", "flair": "FLAIR"}


def test_channels_in_another_order_are_adapted_in_the_first_convolution_alone():
    source = give(settings(), ("T1", "FLAIR"), 2)
    found = adapt(source, settings(), ("FLAIR", "T1"))
    (first,) = found.report.adapted_tensors
    assert torch.equal(found.weights[first], source.weights[first].flip(1))


def test_a_head_of_other_classes_begins_at_random():
    found = adapt(give(settings(), ("T1",), 3), settings(), ("T1",))
    assert set(found.report.random_tensors) == {
        "decoder.seg_layers.0.weight", "decoder.seg_layers.0.bias",
    }  # fmt: skip
    assert found.report.head == "random: the source has 3 outputs, the plan 2"
    assert not set(found.report.random_tensors) & set(found.weights)


@pytest.mark.parametrize(("changes", "why"), [({"outputs": None}, "no labels"), ({"overlap": True}, "regions")])
def test_a_head_that_means_something_else_begins_at_random(changes, why):
    assert why in adapt(replace(give(settings(), ("T1",), 2), **changes), settings(), ("T1",)).report.head


def test_slices_inflate_to_volumes_whose_shares_add_up():
    found = adapt(give(settings(2), ("T1",), 2), settings(3), ("T1",)).report
    assert found.random == 0
    assert found.adapted > 0.9
    assert found.loaded + found.adapted + found.random == pytest.approx(1)
    assert found.adapted_tensors["encoder.stages.0.0.convs.0.all_modules.0.weight"] == "kernel 3x3 to 3x3x3"


def test_batch_norm_does_not_go_into_instance_norm():
    source = give(settings(), ("T1",), 2)
    name = "encoder.stages.0.0.convs.0.all_modules.1"
    weights = {**source.weights, f"{name}.running_mean": torch.zeros(4), f"{name}.running_var": torch.ones(4)}
    with pytest.raises(ModelError, match=f"source has batch norm at {name}, but the planned network has instance or"):
        adapt(give(settings(), ("T1",), 2, weights=weights), settings(), ("T1",))


def test_weights_that_are_not_finite_are_refused():
    source = give(settings(), ("T1",), 2)
    next(iter(source.weights.values()))[0] = torch.nan
    with pytest.raises(ModelError, match=r"values in encoder.*NaN or infinite"):
        adapt(source, settings(), ("T1",))


def test_a_mostly_random_start_is_refused_with_its_share():
    report = adapt(give(settings(features=(4, 16)), ("T1",), 2), settings(), ("T1",)).report
    assert report.loaded < 0.5
    with pytest.raises(
        ModelError, match=rf"only {report.loaded:.1%} of the parameters of 3d_transfer, .* --least-share"
    ):
        check_share(report, 0.5)
    check_share(report, report.loaded)


def test_the_report_is_a_sentence_with_its_percentages():
    found = adapt(give(settings(), ("T1",), 2), settings(), ("T1", "PD"))
    said = describe_report(found.report)
    assert "% of 2262 parameters loaded" in said
    assert "PD from the mean of all" in said


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
