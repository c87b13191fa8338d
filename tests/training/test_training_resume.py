"""A training that stops and goes on is the same training."""

import pytest
import torch

from autoseg.core.errors import ModelError
from autoseg.training import load_state, save_state

SETTINGS = [{}, {"name": "adamw", "learning_rate": 1e-3}]


def test_two_runs_agree_bit_for_bit(bench):
    assert bench.same(bench.train().network, bench.train().network)


def test_training_leaves_the_callers_random_stream_alone(bench):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    bench.train()
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("optimiser", SETTINGS)
@pytest.mark.parametrize("stop_after", [1, 4, 6, 8, 11])
def test_stopping_at_any_step_and_resuming_changes_nothing(bench, optimiser, stop_after):
    configuration = bench.configured(optimiser, ema_decay=0.5)
    whole_facts, part_facts = [], []
    whole = bench.train(configuration, validate=lambda _: 0.5, on_epoch=lambda facts, _: whole_facts.append(facts))
    steps = bench.TinyBatches()
    stopped = bench.train(
        configuration,
        batches=steps,
        validate=lambda _: 0.5,
        on_epoch=lambda facts, _: part_facts.append(facts),
        should_stop=lambda: len(steps.asked) >= stop_after,
    )
    assert not stopped.finished
    assert stopped.step == stop_after
    resumed = bench.train(
        configuration,
        state=load_state(save_state(stopped)),
        validate=lambda _: 0.5,
        on_epoch=lambda facts, _: part_facts.append(facts),
    )
    assert resumed.finished
    assert bench.same(resumed.network, whole.network)
    assert bench.same(resumed.averaged, whole.averaged)
    assert bench.same(resumed.best, whole.best)
    assert [f.train_loss for f in part_facts] == [f.train_loss for f in whole_facts]
    assert [f.steps for f in part_facts] == [4, 4, 4]


def test_killed_run_goes_on_from_its_last_epoch(bench):
    kept = []
    whole = bench.train(on_epoch=lambda _, state: kept.append(save_state(state)))
    assert [load_state(content).epoch for content in kept] == [1, 2, 3]
    for content in kept:
        assert bench.same(bench.train(state=load_state(content)).network, whole.network)


def test_finished_training_takes_no_more_steps(bench):
    whole, batches = bench.train(), bench.TinyBatches()
    again = bench.train(state=whole, batches=batches)
    assert batches.asked == []
    assert again.finished
    assert bench.same(again.network, whole.network)


def test_longer_plan_continues_a_finished_training(bench):
    longer = bench.train(state=bench.train(), epochs=4)
    assert (longer.epoch, longer.step, longer.finished) == (4, 16, True)


def test_states_tensors_do_not_change_later(bench):
    kept = []
    bench.train(on_epoch=lambda _, state: kept.append((state, save_state(state))))
    for state, content in kept:
        assert bench.same(state.network, load_state(content).network)
        momentum = state.optimiser["state"][0]["momentum_buffer"]
        assert torch.equal(momentum, load_state(content).optimiser["state"][0]["momentum_buffer"])


def test_state_survives_the_disk(bench):
    state = bench.train(bench.configured(ema_decay=0.9), validate=lambda _: 0.25)
    back = load_state(save_state(state))
    assert (back.epoch, back.step, back.best_score, back.best_epoch) == (3, 12, 0.25, 3)
    assert back.elapsed_s == state.elapsed_s
    assert back.sums == state.sums
    assert bench.same(back.network, state.network)
    assert bench.same(back.final_weights(), state.averaged)


@pytest.mark.parametrize("damage", [lambda content: content[:100], lambda _: b"", lambda _: b"not a checkpoint"])
def test_damaged_state_is_refused(bench, damage):
    with pytest.raises(ModelError, match="checkpoint is damaged or of another version"):
        load_state(damage(save_state(bench.train(epochs=1))))


def test_foreign_state_is_refused(bench):
    with pytest.raises(ModelError, match="does not fit the planned network"):
        bench.train(network=torch.nn.Conv3d(1, 2, 1), state=bench.train(epochs=1))


def test_the_state_comes_out_by_time_and_the_training_goes_on_from_each(bench):
    kept, clock = [], bench.Clock()
    configuration = bench.configured(ema_decay=0.5, checkpoint_minutes=0.15, epochs=2, steps_per_epoch=7)
    whole = bench.train(configuration, clock=clock, on_pause=lambda state: kept.append(save_state(state)))
    steps = [load_state(content).step for content in kept]
    assert steps == [3, 6, 9, 12]  # three seconds a step on this clock, 9 at most
    for content in kept:
        resumed = bench.train(configuration, state=load_state(content))
        assert bench.same(resumed.network, whole.network)
        assert bench.same(resumed.averaged, whole.averaged)


def test_a_stop_within_a_validation_validates_again(bench):
    rows, scores, stopped = [], iter([0.1, 0.5, 0.6, 0.7]), []

    def validate(_):
        stopped.append(True)
        return next(scores)

    state = bench.train(validate=validate, should_stop=lambda: len(stopped) == 1, on_epoch=lambda *_: rows.append(1))
    assert (state.epoch, state.step, state.best_score, rows) == (0, 4, None, [])
    resumed = bench.train(
        state=load_state(save_state(state)), validate=validate, on_epoch=lambda facts, _: rows.append(facts)
    )
    assert [facts.validation_dice for facts in rows] == [0.5, 0.6, 0.7]
    assert bench.same(resumed.network, bench.train().network)


def test_a_state_of_before_there_were_watches_opens(bench):
    state = bench.train(epochs=1)
    content = state.to_tensors()
    for name in ("plateau", "stopping", "loss_average"):
        del content[name]
    assert type(state).from_tensors(content).plateau == state.plateau
