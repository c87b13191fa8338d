"""Steps, epochs, validation, time and failures."""

import math

import pytest
import torch

from autoseg.core import devices
from autoseg.core.errors import TrainingError
from autoseg.training import EpochFacts, learning_rate


def test_training_learns(bench):
    facts = []
    adam = bench.configured({"name": "adam", "learning_rate": 0.05})
    bench.train(adam, epochs=15, on_epoch=facts.append)
    assert facts[-1].train_loss < 0.6 * facts[0].train_loss


def test_facts_of_an_epoch(bench):
    facts, clock, configuration = [], bench.Clock(), bench.configured()
    bench.train(configuration, validate=lambda _: 0.5, on_epoch=facts.append, clock=clock)
    assert [fact.epoch for fact in facts] == [1, 2, 3]
    assert [fact.validation_dice for fact in facts] == [0.5, 0.5, 0.5]
    rates = [learning_rate(configuration.optimiser, (4 * epoch - 1) / 12) for epoch in (1, 2, 3)]
    assert [fact.learning_rate for fact in facts] == pytest.approx(rates)
    assert all(fact.data_s > 0 and fact.compute_s > 0 for fact in facts)
    assert all(fact.data_s + fact.compute_s < fact.epoch_s <= fact.elapsed_s for fact in facts)
    assert sum(fact.epoch_s for fact in facts) == facts[-1].elapsed_s <= clock.now


def test_row_of_facts_holds_no_nan():
    numbers = dict.fromkeys(EpochFacts.__dataclass_fields__, 0.5)
    assert EpochFacts(**{**numbers, "train_loss": math.nan}).to_row() == {**numbers, "train_loss": None}


def test_progress_counts_steps(bench):
    told = []
    bench.train(progress=lambda *args: told.append(args))
    assert [(done, total) for done, total, _ in told] == [(step, 12) for step in range(1, 13)]
    assert told[5][2].startswith("training steps, epoch 2, loss ")


def test_validation_comes_at_its_interval_and_at_the_end(bench):
    facts, modes = [], []

    def validate(network):
        modes.append((network.training, torch.is_grad_enabled()))
        return 0.5

    configuration = bench.configured(validation_interval=2)
    network = bench.network()
    bench.train(configuration, epochs=5, network=network, validate=validate, on_epoch=facts.append)
    assert [fact.validation_dice for fact in facts] == [None, 0.5, None, 0.5, 0.5]
    assert modes == [(False, False)] * 3
    assert network.training


def test_best_is_kept_and_nan_never_poisons_it(bench):
    scores, weights = iter([math.nan, 0.4, math.nan, 0.7, None, 0.6]), []
    state = bench.train(
        epochs=6,
        validate=lambda _: next(scores),
        on_checkpoint=lambda state: weights.append(state.capture()["network"]),
    )
    assert (state.best_score, state.best_epoch) == (0.7, 4)
    assert bench.same(state.best, weights[3])


def test_average_is_validated_and_kept(bench):
    seen = []
    network = bench.network()
    state = bench.train(
        bench.configured(ema_decay=0.9),
        network=network,
        validate=lambda net: seen.append({k: v.clone() for k, v in net.state_dict().items()}) or 0.5,
    )
    assert bench.same(seen[-1], state.averaged)
    assert bench.same(state.final_weights(), state.averaged)
    assert bench.same(network, state.network)
    assert state.network is network
    assert not bench.same(state.network, state.averaged)


def test_without_average_the_last_weights_are_final(bench):
    state = bench.train()
    assert state.averaged is None
    assert bench.same(state.final_weights(), state.network)


def test_weights_are_left_alone_where_the_loss_is_not_finite(bench):
    facts, weights = [], []

    bench.train(
        steps_per_epoch=1,
        batches=bench.TinyBatches(broken=(1,)),
        on_epoch=facts.append,
        on_checkpoint=lambda state: weights.append(state.capture()["network"]),  # running statistics, too
    )
    assert [fact.skipped_steps for fact in facts] == [0, 1, 0]
    assert math.isnan(facts[1].train_loss)
    assert bench.same(weights[0], weights[1])


def test_gradient_that_is_not_finite_counts_as_a_failure(bench):
    def steep(outputs, target):
        return (outputs[0] * 0).sum().clamp_min(0).sqrt()  # finite, but its slope is not

    with pytest.raises(TrainingError, match="not finite 3 steps in a row"):
        bench.train(loss=steep)


def test_three_failures_in_a_row_end_it_with_the_last_good_weights(bench):
    network = bench.network()
    with pytest.raises(TrainingError, match=r"3 steps in a row \(epoch 2, step 7\); lower optimiser.learning_rate"):
        bench.train(network=network, batches=bench.TinyBatches(broken=(4, 5, 6)))
    assert all(torch.isfinite(weight).all() for weight in network.parameters())


def test_two_failures_in_a_row_are_forgiven(bench):
    assert bench.train(batches=bench.TinyBatches(broken=(4, 5, 7, 8))).finished


def test_time_budget_ends_it_with_the_rate_near_zero(bench):
    facts, batches = [], bench.TinyBatches()
    state = bench.train(time_budget_s=300.0, batches=batches, clock=bench.Clock(), on_epoch=facts.append)
    assert state.finished
    assert 300 <= state.elapsed_s < 320
    assert state.epoch == len(facts) > 3  # the planned epochs do not count
    assert facts[-1].learning_rate < 0.05 * facts[0].learning_rate
    assert [fact.learning_rate for fact in facts] == sorted((fact.learning_rate for fact in facts), reverse=True)
    assert sum(fact.steps for fact in facts) == state.step == len(batches.asked)


def test_time_is_added_up_over_resumptions(bench):
    batches = bench.TinyBatches()
    stopped = bench.train(
        time_budget_s=300.0, batches=batches, clock=bench.Clock(), should_stop=lambda: len(batches.asked) >= 10
    )
    assert 0 < stopped.elapsed_s < 150
    clock = bench.Clock()
    state = bench.train(time_budget_s=300.0, checkpoint=stopped.capture(), clock=clock)
    assert state.finished
    assert clock.now < 320 - stopped.elapsed_s


def test_budget_spent_by_validation_is_not_validated_twice(bench):
    clock, scores = bench.Clock(), []

    def slow(_):
        clock.now += 1000
        scores.append(0.5)
        return 0.5

    state = bench.train(time_budget_s=500.0, validate=slow, clock=clock)
    assert state.finished
    assert (state.epoch, len(scores)) == (1, 1)


def test_gradients_are_clipped(bench):
    moved = []
    for clip in (1e-3, None):
        network = bench.network()
        before = [weight.detach().clone() for weight in network.parameters()]
        settings = {"gradient_clip": clip, "momentum": 0.0, "weight_decay": 0.0, "learning_rate": 1.0}
        bench.train(bench.configured(settings), network=network, epochs=1, steps_per_epoch=1)
        squares = [((a - b) ** 2).sum() for a, b in zip(network.parameters(), before, strict=True)]
        moved.append(torch.stack(squares).sum().sqrt().item())
    assert moved[0] == pytest.approx(1e-3, rel=1e-2)
    assert moved[1] > 10 * moved[0]


def test_half_precision_is_used_when_asked(bench, monkeypatch):
    monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: True)
    types = []

    def loss(outputs, target):
        types.append(outputs[0].dtype)
        return outputs[0].float().mean()

    bench.train(bench.configured(precision="bfloat16"), loss=loss, epochs=1, steps_per_epoch=1)
    bench.train(bench.configured(precision="auto"), loss=loss, epochs=1, steps_per_epoch=1)
    assert types == [torch.bfloat16, torch.float32]
