"""The table, its options, regions, and deep supervision."""

import pytest
import torch

from autoseg.core.errors import PlanError, TrainingError, UsageError
from autoseg.core.records import LossSettings
from autoseg.losses import LOSSES, build_loss
from autoseg.losses.building import shrink_target

REGIONS = ((1, 2), (2,))
TARGET = torch.randint(0, 3, (2, 4, 6, 8), generator=torch.Generator().manual_seed(0)).to(torch.int16)


def right_logits(target: torch.Tensor, strength: float, *, regions: bool) -> torch.Tensor:
    """Logits that favour the right answer by ``strength``."""
    if regions:
        maps = [torch.isin(target, torch.tensor(labels, dtype=target.dtype)) for labels in REGIONS]
    else:
        maps = [target == label for label in range(3)]
    return (torch.stack(maps, 1).float() * 2 - 1) * strength


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("ignore_label", [None, 9])
@pytest.mark.parametrize("name", list(LOSSES))
def test_every_loss_falls_with_better_predictions_and_has_a_finite_slope(name, ignore_label, regions):
    if name == ("dice_ce" if regions else "dice_bce"):
        with pytest.raises(PlanError, match="use dice_bce" if regions else "use dice_ce"):
            build_loss(LossSettings(name=name), regions=REGIONS if regions else ())
        return
    loss = build_loss(LossSettings(name=name), regions=REGIONS if regions else (), ignore_label=ignore_label)
    target = TARGET.clone()
    if ignore_label is not None:
        target[:, 0] = ignore_label
    values = []
    for strength in (-3.0, 0.0, 3.0, 50.0):
        logits = right_logits(TARGET, strength, regions=regions).requires_grad_()
        value = loss([logits], target)
        value.backward()
        assert value.shape == ()
        assert torch.isfinite(logits.grad).all()
        values.append(value.item())
    assert values == sorted(values, reverse=True)
    assert 0 <= values[-1] < 2e-4


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "dice_bce"])
def test_ignored_voxels_change_nothing(name):
    loss = build_loss(LossSettings(name=name), ignore_label=9)
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn((2, 3, 4, 6, 8), generator=generator)
    target = TARGET.clone()
    target[:, 1] = 9
    other = logits.clone()
    other[:, :, 1] = 5 * torch.randn((2, 3, 6, 8), generator=generator)
    assert torch.allclose(loss([logits], target), loss([other], target))


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "dice_bce"])
def test_wholly_ignored_patch_gives_a_finite_loss_and_no_slope(name):
    logits = torch.randn((1, 3, 4, 6), generator=torch.Generator().manual_seed(2)).requires_grad_()
    value = build_loss(LossSettings(name=name), ignore_label=9)([logits], torch.full((1, 4, 6), 9, dtype=torch.int16))
    value.backward()
    assert torch.isfinite(value)
    assert not logits.grad.any()


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "dice_ce"])
def test_regions_follow_their_labels(name):
    loss = build_loss(LossSettings(name=name), regions=REGIONS)
    only_edema = torch.ones((1, 2, 2, 2), dtype=torch.int16)  # label 1: in the first region, not in the second
    right = torch.tensor([8.0, -8.0]).reshape(1, 2, 1, 1, 1).expand(1, 2, 2, 2, 2)
    assert loss([right], only_edema) < loss([-right], only_edema)


def test_outputs_are_weighted():
    settings = LossSettings(name="focal", deep_supervision_weights=(0.75, 0.25, 0.0))
    outputs = [torch.randn((2, 3, *shape)) for shape in ((4, 6, 8), (2, 3, 4), (1, 1, 2))]
    alone = build_loss(LossSettings(name="focal"))
    coarse = shrink_target(TARGET, (2, 3, 4))
    expected = 0.75 * alone(outputs[:1], TARGET) + 0.25 * alone(outputs[1:2], coarse)
    assert torch.allclose(build_loss(settings)(outputs, TARGET), expected)


def test_without_weights_only_the_finest_output_counts():
    outputs = [torch.randn((2, 3, 4, 6, 8)), torch.full((2, 3, 2, 3, 4), torch.nan)]
    assert torch.isfinite(build_loss(LossSettings())(outputs, TARGET))


def test_number_of_outputs_must_fit_the_weights():
    loss = build_loss(LossSettings(deep_supervision_weights=(0.7, 0.3)))
    with pytest.raises(TrainingError, match=r"gave 1 outputs, but loss.deep_supervision_weights has 2"):
        loss([torch.zeros((2, 3, 4, 6, 8))], TARGET)


def test_shrunken_target_takes_the_voxel_nearest_to_each_centre():
    target = torch.arange(12).reshape(1, 2, 6)
    assert shrink_target(target, (2, 2)).tolist() == [[[1, 4], [7, 10]]]
    assert shrink_target(target, (1, 3)).tolist() == [[[7, 9, 11]]]


def test_unknown_loss_and_option_are_named():
    with pytest.raises(UsageError, match=r"no loss 'dyce'.*dice_ce"):
        build_loss(LossSettings(name="dyce"))
    with pytest.raises(PlanError, match=r"no option 'gama'; it knows: gamma"):
        build_loss(LossSettings(name="focal", options={"gama": 1.0}))
