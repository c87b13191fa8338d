"""Every loss on a card: the value and the gradient of the CPU, without waiting where the CPU is not needed."""

import pytest
import torch

from autoseg.core.records import LossSettings
from autoseg.losses import LOSSES, build_loss

REGIONS = ((1, 2), (2,))
KINDS = [
    (name, regions)
    for name in LOSSES
    for regions in ((), REGIONS)
    if name not in ({"dice_ce"} if regions else {"dice_bce"})
]
CLASS_WEIGHTS = {"dice_ce", "dice_bce", "dice_focal", "boundary_dice_ce"}
# Losses that look at connected components or distances, which scipy finds on the CPU.
ON_THE_CPU = {"blob_dice_ce", "cc_dice_ce"}


def settings_of(name, outputs):
    """With weights of classes where the loss takes them."""
    weights = {"class_weights": (0.5, 1.0, 2.0)[:outputs]} if name in CLASS_WEIGHTS else {}
    return LossSettings(name=name, options=weights)


def computed(name, regions, device):
    """Loss and gradients at three scales, on a device."""
    generator = torch.Generator().manual_seed(2)
    shape = (4, 6, 10)
    target = (torch.rand((2, *shape), generator=generator) > 0.8).short() * 2
    outputs = len(regions) if regions else 3
    scales = [shape, (4, 3, 5), (2, 3, 5)]
    logits = [torch.randn((2, outputs, *size), generator=generator) for size in scales]
    logits = [scale.to(device).requires_grad_() for scale in logits]
    loss = build_loss(settings_of(name, outputs), regions=regions, ignore_label=None)
    value = loss(logits, target.to(device))
    value.backward()
    return value, [scale.grad for scale in logits if scale.grad is not None]  # the coarsest may count for nothing


@pytest.mark.parametrize(("name", "regions"), KINDS, ids=lambda value: value if isinstance(value, str) else None)
def test_a_card_computes_the_loss_of_a_cpu(machine, name, regions):
    value, gradients = computed(name, regions, "cpu")
    cards = machine(1)
    there, slopes = computed(name, regions, "cuda")
    moved = 4 * ["copy from cpu to cuda:0"]  # this test's own: three logits and the target
    assert (cards.waits != moved) == (name in ON_THE_CPU), cards.waits
    assert {there.device.type, *(slope.device.type for slope in slopes)} == {"cuda"}
    torch.testing.assert_close(there.cpu(), value)
    torch.testing.assert_close([slope.cpu() for slope in slopes], gradients)
