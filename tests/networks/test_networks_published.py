"""Published weights load by name: ours and MONAI's network of the same topology compute the same."""

import pytest
import torch
from monai.networks.nets import UNETR, DynUNet, SegResNet, SwinUNETR

from autoseg.core.records import NetworkSettings
from autoseg.networks import build_network


def build(name, features, dimensions, *, blocks=None, **options):
    stages = len(features)
    settings = NetworkSettings(
        name=name,
        features=features,
        kernels=((3,) * dimensions,) * stages,
        strides=((1,) * dimensions, *((2,) * dimensions,) * (stages - 1)),
        encoder_blocks=blocks or (1,) * stages,
        decoder_blocks=(1,) * (stages - 1),
        deep_supervision=False,
        options=options,
    )
    return build_network(settings, dimensions=dimensions, input_channels=2, output_channels=3, seed=1)


def unetr():
    size = (32, 48, 32)
    theirs = UNETR(2, 3, size, feature_size=4, hidden_size=128, mlp_dim=512, num_heads=2)
    return build("unetr", (4, 8, 16, 32, 128), 3, patch_size=size), theirs, size


def swin_unetr_3d():
    theirs = SwinUNETR(2, 3, feature_size=12, num_heads=(1, 1, 3, 6), depths=(1, 1, 1, 1))
    return build("swin_unetr", (12, 12, 24, 48, 96, 192), 3), theirs, (32, 64, 32)


def swin_unetr_2d():
    theirs = SwinUNETR(2, 3, feature_size=24, num_heads=(1, 3, 6, 12), spatial_dims=2)
    return build("swin_unetr", (24, 24, 48, 96, 192, 384), 2, blocks=(1, 2, 2, 2, 2, 2)), theirs, (64, 96)


def segresnet():
    return build("segresnet", (8, 16, 32, 64), 3, blocks=(1, 2, 2, 4)), SegResNet(3, 8, 2, 3), (16, 24, 32)


def dynunet():
    theirs = DynUNet(
        3, 2, 3, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=(8, 16, 32, 64), deep_supervision=True, deep_supr_num=2
    )
    return build("dynunet", (8, 16, 32, 64), 3), theirs, (16, 24, 32)


@pytest.mark.parametrize("pair", [unetr, swin_unetr_3d, swin_unetr_2d, segresnet, dynunet])
def test_weights_of_monai_give_the_same_logits(pair):
    torch.manual_seed(0)
    ours, theirs, size = pair()
    weights = theirs.state_dict()
    missing = ours.load_state_dict({k: v for k, v in weights.items() if k in ours.state_dict()}, strict=False)
    # MONAI's SegResNet, UNETR and SwinUNETR have no heads at coarser stages.
    assert {key.split(".")[0] for key in missing.missing_keys} <= {"heads"}
    x = torch.randn(1, 2, *size)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x)[0], theirs.eval()(x), rtol=1e-4, atol=1e-4)
