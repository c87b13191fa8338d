"""What is frozen rests, to the last bit; what moves moves at its own rate; and a resume changes nothing."""

import pytest
import torch

from autoseg.core.records import TransferSettings

PARTS = {"0": "encoder", "1": "encoder", "4": "head"}  # of the tiny network: convolution, batch norm, last convolution


def parts(network):
    return {name: PARTS[name.split(".")[1]] for name in network.state_dict()}


def configured(bench, mode, **settings):
    transfer = TransferSettings(source="a", weights="b", digest="c", mode=mode, **settings)
    return bench.configured(ema_decay=0.5).model_copy(update={"transfer": transfer})


def train(bench, mode, settings=None, **options):
    network = bench.network()
    return bench.train(configured(bench, mode, **(settings or {})), network=network, parts=parts(network), **options)


def moved(bench, state):
    before = bench.network().state_dict()
    weights = state["network"] if isinstance(state, dict) else state.network.state_dict()
    return {name for name, tensor in weights.items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize("mode", ["partial", "head"])
def test_a_frozen_encoder_rests_with_its_statistics_and_their_counter(bench, mode):
    state = train(bench, mode, validate=lambda network: 0.5)
    assert moved(bench, state) == {"layers.4.weight", "layers.4.bias"}
    frozen = {name: tensor for name, tensor in state.averaged.items() if not name.startswith("layers.4")}
    assert all(torch.equal(tensor, bench.network().state_dict()[name]) for name, tensor in frozen.items())


def test_full_moves_everything_and_the_encoder_by_a_tenth(bench):
    one = bench.configured({"name": "sgd", "momentum": 0.0, "weight_decay": 0.0, "gradient_clip": None}, epochs=1)
    one = one.model_copy(update={"training": one.training.model_copy(update={"steps_per_epoch": 1})})
    settings = TransferSettings(source="a", weights="b", digest="c")
    network = bench.network()
    before = bench.network().state_dict()
    slow = bench.train(
        one.model_copy(update={"transfer": settings}), network=network, parts=parts(network)
    ).network.state_dict()
    fast = bench.train(one).network.state_dict()
    for name, factor in (("layers.0.weight", 0.1), ("layers.4.weight", 1.0)):
        assert torch.allclose(slow[name] - before[name], factor * (fast[name] - before[name]), atol=1e-7)


def test_gradual_moves_the_encoder_from_its_share_on(bench):
    kept = {}
    state = train(
        bench, "gradual", {"unfreeze_share": 0.5}, on_checkpoint=lambda s: kept.__setitem__(s.epoch, s.capture())
    )
    assert "layers.0.weight" not in moved(bench, kept[1])
    assert "layers.1.running_mean" not in moved(bench, kept[1])
    assert {"layers.0.weight", "layers.1.running_mean"} <= moved(bench, state)
    assert (kept[1]["phase"], state.phase) == (0, 1)
    assert [group["factor"] for group in state.optimiser.param_groups] == [1.0, 0.1]


@pytest.mark.parametrize("stop_after", [3, 5, 6, 7, 10])
def test_gradual_resumes_bit_for_bit_before_at_and_after_the_change(bench, stop_after):
    settings = {"unfreeze_share": 0.5}  # of 12 steps
    whole = train(bench, "gradual", settings)
    steps = bench.TinyBatches()
    stopped = train(bench, "gradual", settings, batches=steps, should_stop=lambda: len(steps.asked) >= stop_after)
    assert stopped.step == stop_after
    resumed = train(bench, "gradual", settings, checkpoint=bench.reload(stopped))
    assert bench.same(resumed.network, whole.network)
    assert bench.same(resumed.averaged, whole.averaged)


def test_a_longer_training_does_not_freeze_again(bench):
    whole = train(bench, "gradual", {"unfreeze_share": 0.5})
    longer = train(bench, "gradual", {"unfreeze_share": 0.5}, checkpoint=whole.capture(), epochs=12)
    assert longer.phase == 1


def test_statistics_can_stay_while_the_weights_of_their_norms_learn(bench):
    state = train(bench, "full", {"freeze_statistics": True}, validate=lambda network: 0.5)
    learned = moved(bench, state)
    assert {"layers.0.weight", "layers.1.weight", "layers.4.weight"} <= learned
    assert not learned & {"layers.1.running_mean", "layers.1.running_var", "layers.1.num_batches_tracked"}
    assert "layers.1.running_mean" in moved(bench, train(bench, "full"))


def test_without_transfer_the_optimiser_has_one_group_as_ever(bench):
    (group,) = bench.train().optimiser.param_groups
    assert "factor" not in group
