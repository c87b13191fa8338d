"""What a network cannot do is declared, and refused in one sentence."""

import dataclasses

import pytest
import torch
from test_networks_contract import NETWORKS_IN_2D_AND_3D, ON_ENCODERS, PLANNED, build, image, patch, settings

from autoseg.core.errors import PlanError
from autoseg.networks import build_network, fit_settings, network_traits
from autoseg.networks.traits import NetworkTraits, check_settings, complete_settings

TWO_STAGES = {
    "features": (4, 6),
    "kernels": ((3, 3, 3),) * 2,
    "strides": ((1, 1, 1), (1, 2, 2)),
    "encoder_blocks": (1, 1),
    "decoder_blocks": (1,),
}


@pytest.mark.parametrize(("name", "dimensions"), NETWORKS_IN_2D_AND_3D)
def test_the_least_multiples_are_enough(name, dimensions):
    made = fit_settings(settings(name, dimensions), dimensions=dimensions, patch=patch(dimensions, name))
    divisor = network_traits(name).divisor(made)
    size = (divisor[0] * 3, *divisor[1:-1], divisor[-1] * 2)
    fitted = fit_settings(settings(name, dimensions), dimensions=dimensions, patch=size)
    net = build_network(fitted, dimensions=dimensions, input_channels=1, output_channels=2, seed=1)
    assert net.eval()(torch.zeros(1, 1, *size))[0].shape == (1, 2, *size)


@pytest.mark.parametrize("name", PLANNED)
def test_the_fields_that_a_network_says_it_follows_change_its_weights(name):
    changed = {
        "features": (6, 8, 10),
        "kernels": ((3, 3, 3),) * 3,
        "strides": ((1, 1, 1), (1, 2, 2), (1, 2, 2)),
        "encoder_blocks": (2, 3, 3),
        "decoder_blocks": (2, 3),
    }

    def shapes(**changes):
        return [tuple(weight.shape) for weight in build(name, **changes).parameters()]

    follows = {field for field in changed if shapes(**{field: changed[field]}) != shapes()}
    # Strides have weights only where something is upsampled or merged by convolution.
    assert follows | {"strides"} == network_traits(name).follows | {"strides"}


@pytest.mark.parametrize("name", PLANNED)
def test_too_few_stages_are_refused_and_the_least_are_not(name):
    least = network_traits(name).least_stages
    if least == 2:
        build(name, **TWO_STAGES)(image(3))
    else:
        with pytest.raises(PlanError, match=rf"'{name}' needs at least {least} stages, but features has 2; give"):
            build(name, **TWO_STAGES)


def test_a_patch_that_the_strides_do_not_divide_is_refused():
    with pytest.raises(PlanError, match=r"'unet' cannot take \(5, 8, 12\) voxels; use multiples of \(2, 4, 4\)"):
        fit_settings(settings(), dimensions=3, patch=(5, 8, 12))


def test_a_patch_that_shrinks_to_one_voxel_is_refused():
    with pytest.raises(PlanError, match=r"keeps a single voxel of \(2, 4, 4\) at its coarsest stage"):
        fit_settings(settings(), dimensions=3, patch=(2, 4, 4))


def test_unetr_is_told_its_patch():
    assert fit_settings(settings("unetr"), dimensions=3, patch=patch()).options == {"patch_size": patch()}


def test_unetr_without_a_patch_is_refused():
    with pytest.raises(PlanError, match=r"set network.options.patch_size to the configuration's own"):
        build_network(settings("unetr"), dimensions=3, input_channels=1, output_channels=2, seed=1)


def test_unetr_takes_no_other_tile_than_its_patch():
    assert network_traits("unetr").fixed_input_size
    with pytest.raises(PlanError, match=r"built for \(4, 8, 12\) voxels and cannot take \(4, 8, 16\); set patch_size"):
        build("unetr")(torch.zeros(1, 2, 4, 8, 16))


@pytest.mark.parametrize(("name", "dimensions"), NETWORKS_IN_2D_AND_3D)
def test_a_network_without_fixed_input_takes_another_tile(name, dimensions):
    if not network_traits(name).fixed_input_size:
        tile = (64, 32) if name in ON_ENCODERS else (8, 16, 8)[-dimensions:]
        assert build(name, dimensions).eval()(torch.zeros(1, 2, *tile))[0].shape[2:] == tile


def test_what_a_network_cannot_do_is_left_out_of_its_settings():
    plain = NetworkTraits(supports_deep_supervision=False, supports_checkpointing=False)
    completed = complete_settings(settings(options={"checkpointing": True}), plain, patch())
    assert not completed.deep_supervision
    assert completed.options == {}
    check_settings(completed, plain, 3)


@pytest.mark.parametrize(
    ("traits", "message"),
    [
        ({"dimensions": (3,)}, "exists in 3D only; plan another network for the 2D configuration"),
        ({"supports_deep_supervision": False}, "has no deep supervision; set deep_supervision to false"),
    ],
)
def test_what_a_network_cannot_do_is_refused(traits, message):
    with pytest.raises(PlanError, match=message):
        check_settings(settings(dimensions=2), NetworkTraits(**traits), 2)


def test_traits_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        network_traits("unet").least_stages = 1


def test_a_network_that_leaves_no_choice_is_planned_as_it_is():
    made = fit_settings(settings("unet_resnet", 2), dimensions=2, patch=(64, 64))
    assert made.strides == ((1, 1), *((2, 2),) * 5)
    assert made.options["encoder"] == "tu-test_efficientnet"
    with pytest.raises(PlanError, match=r"has features \[4, 6, 8\], but its encoder has \[16, 16, 24, 32, 48, 64\]"):
        check_settings(settings("unet_resnet", 2), network_traits("unet_resnet"), 2)


def test_strides_beyond_a_limit_become_dilation():
    strides = ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    assert network_traits("aspp_net").usual_strides(strides) == strides
    assert network_traits("pyramid_net").usual_strides((*strides, (2, 2, 2))) == (*strides, (2, 1, 1))
