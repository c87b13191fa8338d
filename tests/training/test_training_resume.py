"""A training that stops and goes on is the same training."""

from pathlib import Path

import pytest
import torch

from autoseg.core.errors import ModelError
from autoseg.core.records import TrainingStage
from autoseg.training import TrainingState, pack_checkpoint, unpack_checkpoint

OLD = Path(__file__).parent / "checkpoint_0.1.pt"
SETTINGS = [{}, *({"name": name, "learning_rate": 1e-3} for name in ("adamw", "muon"))]


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
    whole = bench.train(configuration, validate=lambda _: 0.5, on_epoch=whole_facts.append)
    steps = bench.TinyBatches()
    stopped = bench.train(
        configuration,
        batches=steps,
        validate=lambda _: 0.5,
        on_epoch=part_facts.append,
        should_stop=lambda: len(steps.asked) >= stop_after,
    )
    assert not stopped.finished
    assert stopped.step == stop_after
    resumed = bench.train(
        configuration,
        checkpoint=bench.reload(stopped),
        validate=lambda _: 0.5,
        on_epoch=part_facts.append,
    )
    assert resumed.finished
    assert bench.same(resumed.network, whole.network)
    assert bench.same(resumed.averaged, whole.averaged)
    assert bench.same(resumed.best, whole.best)
    assert [f.train_loss for f in part_facts] == [f.train_loss for f in whole_facts]
    assert [f.steps for f in part_facts] == [4, 4, 4]


STAGES = tuple(
    TrainingStage(until=until, factors=(1, 1, 1), patch_size=(4, 6, 8), batch_size=2) for until in (0.3, 0.7)
)


@pytest.mark.parametrize("stop_after", [2, 4, 7, 10])
def test_a_resumed_training_asks_for_the_same_stages(bench, stop_after):
    configuration = bench.configured(stages=STAGES)
    whole, first, rest = (bench.TinyBatches() for _ in range(3))
    uninterrupted = bench.train(configuration, batches=whole)
    stopped = bench.train(configuration, batches=first, should_stop=lambda: len(first.asked) >= stop_after)
    resumed = bench.train(configuration, batches=rest, checkpoint=bench.reload(stopped))
    assert whole.stages == [0] * 4 + [1] * 5 + [2] * 3  # 12 steps: 0.3 of them end with step 4, 0.7 with step 9
    assert first.stages + rest.stages == whole.stages
    assert bench.same(resumed.network, uninterrupted.network)


def test_no_stage_is_validated(bench):
    facts = []
    bench.train(bench.configured(stages=STAGES), validate=lambda _: 0.5, on_epoch=facts.append)
    assert [fact.validation_dice for fact in facts] == [None, None, 0.5]


def test_killed_run_goes_on_from_its_last_epoch(bench):
    kept = []
    whole = bench.train(on_checkpoint=lambda state: kept.append(bench.reload(state)))
    assert [content["epoch"] for content in kept] == [1, 2, 3]
    for content in kept:
        assert bench.same(bench.train(checkpoint=content).network, whole.network)


def test_finished_training_takes_no_more_steps(bench):
    whole, batches = bench.train(), bench.TinyBatches()
    again = bench.train(checkpoint=whole.capture(), batches=batches)
    assert batches.asked == []
    assert again.finished
    assert bench.same(again.network, whole.network)


def test_longer_plan_continues_a_finished_training(bench):
    longer = bench.train(checkpoint=bench.train().capture(), epochs=4)
    assert (longer.epoch, longer.step, longer.finished) == (4, 16, True)


def test_states_tensors_do_not_change_later(bench):
    kept = []
    bench.train(on_checkpoint=lambda state: kept.append((state.capture(), bench.reload(state))))
    for captured, packed in kept:
        assert bench.same(captured["network"], packed["network"])
        momentum = captured["optimiser"]["state"][0]["momentum_buffer"]
        assert torch.equal(momentum, packed["optimiser"]["state"][0]["momentum_buffer"])


def test_state_survives_the_disk(bench):
    configuration = bench.configured(ema_decay=0.9)
    state = bench.train(configuration, validate=lambda _: 0.25)
    back = TrainingState.start(bench.network(), configuration)
    back.restore(bench.reload(state), configuration)
    assert (back.epoch, back.step, back.best_score, back.best_epoch) == (3, 12, 0.25, 3)
    assert back.elapsed_s == state.elapsed_s
    assert back.sums == state.sums
    assert bench.same(back.network, state.network)
    assert bench.same(back.final_weights(), state.averaged)


@pytest.mark.parametrize("damage", [lambda content: content[:100], lambda _: b"", lambda _: b"not a checkpoint"])
def test_damaged_state_is_refused(bench, damage):
    with pytest.raises(ModelError, match="checkpoint is damaged or of another version"):
        unpack_checkpoint(damage(pack_checkpoint(bench.train(epochs=1).capture())))


def test_foreign_state_is_refused(bench):
    with pytest.raises(ModelError, match="does not fit the planned network"):
        bench.train(network=torch.nn.Conv3d(1, 2, 1), checkpoint=bench.train(epochs=1).capture())


def test_the_state_comes_out_by_time_and_the_training_goes_on_from_each(bench):
    kept, clock = [], bench.Clock()
    configuration = bench.configured(ema_decay=0.5, checkpoint_minutes=0.15, epochs=2, steps_per_epoch=7)
    whole = bench.train(configuration, clock=clock, on_checkpoint=lambda state: kept.append(bench.reload(state)))
    steps = [content["step"] for content in kept]
    assert steps == [3, 6, 7, 10, 13, 14]  # three seconds a step on this clock, 9 at most; 7 and 14 end an epoch
    for content in kept:
        resumed = bench.train(configuration, checkpoint=content)
        assert bench.same(resumed.network, whole.network)
        assert bench.same(resumed.averaged, whole.averaged)


def test_a_stop_within_a_validation_validates_again(bench):
    rows, scores, stopped = [], iter([0.1, 0.5, 0.6, 0.7]), []

    def validate(_):
        stopped.append(True)
        return next(scores)

    state = bench.train(validate=validate, should_stop=lambda: len(stopped) == 1, on_epoch=lambda _: rows.append(1))
    assert (state.epoch, state.step, state.best_score, rows) == (0, 4, None, [])
    resumed = bench.train(checkpoint=bench.reload(state), validate=validate, on_epoch=rows.append)
    assert [facts.validation_dice for facts in rows] == [0.5, 0.6, 0.7]
    assert bench.same(resumed.network, bench.train().network)


def test_checkpoints_older_than_a_field_open(bench):
    content = bench.train(epochs=1).capture()
    for name in ("plateau", "stopping", "loss_average", "acceleration", "phase"):
        del content[name]
    whole = bench.train(epochs=2)
    resumed = bench.train(checkpoint=unpack_checkpoint(pack_checkpoint(content)), epochs=2)
    assert bench.same(resumed.network, whole.network) is False  # another learning rate: it was planned for one epoch
    assert (resumed.epoch, resumed.finished) == (2, True)


def test_a_checkpoint_keeps_its_keys(bench):
    """Those of version 0.1, whose trainings must resume."""
    content = torch.load(OLD, weights_only=True)
    captured = bench.train().capture()
    assert captured.keys() == content.keys()
    for name in ("sums", "plateau", "stopping"):
        assert captured[name].keys() == content[name].keys()


def test_a_checkpoint_of_version_0_1_resumes(bench):
    configuration = bench.configured({"schedule": "plateau", "patience": 1}, ema_decay=0.5)  # stopped at step 6 of 12
    scores, rest = iter([0.5, 0.4, 0.6]), iter([0.4, 0.6])
    whole = bench.train(configuration, validate=lambda _: next(scores))
    old = unpack_checkpoint(OLD.read_bytes())
    assert (old["step"], old["epoch"], old["best_score"]) == (6, 1, 0.5)
    resumed = bench.train(configuration, checkpoint=old, validate=lambda _: next(rest))
    for name, weight in whole.final_weights().items():
        torch.testing.assert_close(resumed.final_weights()[name], weight)
    assert (resumed.plateau, resumed.best_score, resumed.finished) == (whole.plateau, 0.6, True)
