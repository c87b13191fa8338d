"""The analytic count of convolution outputs equals what the networks themselves say."""

import pytest
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet

from autoseg.networks.adapter import architecture_arguments
from autoseg.planning.memory import count_conv_elements
from autoseg.planning.presets import PRESETS
from autoseg.planning.topology import describe_network, plan_topology

SHAPES = [
    ((1.0, 1.0, 1.0), (48, 64, 40)),
    ((5.0, 1.0, 1.0), (12, 64, 80)),
    ((1.0, 1.3), (96, 64)),
    ((3.0, 1.0), (9, 50)),
]


@pytest.mark.parametrize(("spacing", "size"), SHAPES)
@pytest.mark.parametrize("preset", ["standard", "large"])
def test_count_equals_the_network_s_own_estimate(preset, spacing, size):
    topology = plan_topology(spacing, size)
    network = describe_network(PRESETS[preset], topology, 8)
    network = network.model_copy(update={"deep_supervision": False})
    arguments = architecture_arguments(network, len(size), 3, 5)
    if preset == "standard":
        reference = PlainConvUNet(n_conv_per_stage=network.encoder_blocks, **arguments)
    else:
        reference = ResidualEncoderUNet(n_blocks_per_stage=network.encoder_blocks, **arguments)
    counted = count_conv_elements(network, topology.patch, output_channels=5)
    assert counted == reference.compute_conv_feature_map_size(topology.patch)
