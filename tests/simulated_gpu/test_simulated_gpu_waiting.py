"""Training never stalls a card: at most one wait a step, for the step before, with the promises of the CPU."""

import math

import pytest
import torch
from tiny_training import configured, trained

from autoseg.core.errors import TrainingError

KINDS = {
    "sgd": {},
    "adam": {"optimiser": {"name": "adam"}},
    "adamw": {"optimiser": {"name": "adamw"}, "ema_decay": 0.9},
    "muon": {"optimiser": {"name": "muon"}, "ema_decay": 0.9},
    "float16": {"precision": "float16", "ema_decay": 0.9},
    "parts": {"accumulation": 2},
    "class weights": {"loss": {"class_weights": (0.5, 1.0, 2.0)}},
    "batch norm": {"name": "aspp_net", "dimensions": 2, "ema_decay": 0.9},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def length_of(kind, **length):
    return configured(**{"epochs": 2, "steps_per_epoch": 3, "ema_decay": 0.0, **KINDS[kind], **length})


@every_kind
def test_a_step_waits_once_for_the_step_before(machine, kind):
    cards = machine(1)
    configuration = length_of(kind)
    seen = []
    trained(configuration, "cuda", progress=lambda *_: seen.append(list(cards.waits)) or cards.waits.clear())
    # The first step of an epoch waits for nothing and the last for itself, too.
    assert [[*waits] for waits in seen[1:3]] == [["event"], ["event", "event"]]
    assert "event" not in seen[0]
    assert "event" not in seen[3]
    assert [len(waits) for waits in seen[4:]] == [1, 2]


def everything(state):
    """Weights, statistics, moving average and the optimiser's state, flat."""
    saved = state.capture()
    states = saved["optimiser"]["state"].values()
    numbers = [*saved["network"].values(), *(saved["averaged"] or {}).values()]
    return [*numbers, *(value for values in states for value in values.values() if value is not None)]


@every_kind
@pytest.mark.parametrize("broken", [0, 2])
def test_a_step_whose_loss_is_not_finite_moves_nothing(machine, kind, broken):
    machine(1)
    kept, facts = [], []
    configuration = length_of(kind, epochs=4, steps_per_epoch=1)
    trained(
        configuration, "cuda", broken=(broken,), on_epoch=facts.append,
        on_checkpoint=lambda state: kept.append(everything(state)),
    )  # fmt: skip
    assert [fact.skipped_steps for fact in facts] == [int(step == broken) for step in range(4)]
    assert math.isnan(facts[broken].train_loss)
    if broken:
        before, after = kept[broken - 1], kept[broken]
        assert all(torch.equal(first, second) for first, second in zip(before, after, strict=True))
    assert all(torch.isfinite(number).all() for numbers in kept for number in numbers)
    assert not all(torch.equal(first, last) for first, last in zip(kept[broken], kept[3], strict=True))


@every_kind
def test_a_first_step_that_is_skipped_leaves_no_trace(machine, kind):
    """The second step is then what it would have been on a CPU, which does not begin with it either."""
    configuration = length_of(kind, epochs=1, steps_per_epoch=3, precision="float32")
    usual = trained(configuration, "cpu", broken=(0,)).network.state_dict()
    machine(1)
    on_card = trained(configuration, "cuda", broken=(0,)).capture()["network"]
    for name, weight in usual.items():
        if weight.ndim > 1:  # a bias before a norm has no gradient but rounding, which Adam makes a step of
            torch.testing.assert_close(on_card[name], weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_three_in_a_row_end_a_training_at_the_same_step(machine, device):
    machine(1)
    configuration = configured(epochs=2, steps_per_epoch=6)
    with pytest.raises(TrainingError, match=r"3 steps in a row \(epoch 1, step 5\)"):
        trained(configuration, device, broken=(2, 3, 4))
    facts = []
    assert trained(configuration, device, broken=(2, 3, 5, 6), on_epoch=facts.append).finished
    assert [fact.skipped_steps for fact in facts] == [3, 1]


@pytest.mark.parametrize("optimiser", ["sgd", "adamw", "muon"])
def test_an_optimiser_moves_between_card_and_cpu(machine, optimiser):
    """Its state is where the weights are, and it is fused on the card alone."""
    machine(1)
    configuration = configured(optimiser={"name": optimiser}, epochs=3, steps_per_epoch=1)
    kept = None
    for epoch, device in enumerate(("cpu", "cuda", "cpu"), start=1):
        length = configuration.training.model_copy(update={"epochs": epoch})
        state = trained(configuration.model_copy(update={"training": length}), device, checkpoint=kept)
        assert {group["fused"] for group in state.optimiser.param_groups} == {device == "cuda"}
        tensors = [value for values in state.optimiser.state.values() for value in values.values() if value is not None]
        assert {tensor.device.type for tensor in tensors} == {device}
        kept = state.capture()
        kept["finished"] = False
    assert state.step == 3
