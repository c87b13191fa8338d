"""Learning rates that fall in steps or when nothing improves, and stopping early."""

import logging

import pytest

from autoseg.core.records import OptimiserSettings
from autoseg.training import learning_rate
from autoseg.training.optimisation import PlateauDetector


@pytest.mark.parametrize(
    ("settings", "progress", "rate"),
    [
        ({}, 0.0, 0.01),
        ({}, 0.2499, 0.01),
        ({}, 0.25, 0.001),
        ({}, 0.99, 0.00001),
        ({"step_share": 0.1, "factor": 0.5}, 0.3, 0.01 * 0.5**3),
        ({"warmup_share": 0.2}, 0.1, 0.005),
        ({"warmup_share": 0.2}, 0.3999, 0.01),
        ({"warmup_share": 0.2}, 0.4, 0.001),
    ],
)
def test_step_falls_after_every_share(settings, progress, rate):
    assert learning_rate(OptimiserSettings(schedule="step", **settings), progress) == pytest.approx(rate)


def test_plateau_falls_with_its_reductions_alone():
    settings = OptimiserSettings(schedule="plateau", factor=0.5, warmup_share=0.1)
    assert [learning_rate(settings, progress, reductions=2) for progress in (0.1, 0.5, 1.0)] == [0.0025] * 3
    assert learning_rate(settings, 0.05, reductions=0) == 0.005


def test_a_detector_counts_what_does_not_improve():
    watch, seen = PlateauDetector(), []
    for value in (0.5, 0.5, 0.55, 0.7, 0.7, 0.6, 0.65):
        watch.update(value, margin=0.1, patience=2)
        seen.append((watch.best, watch.since, watch.reductions))
    assert seen == [(0.5, 0, 0), (0.5, 1, 0), (0.5, 0, 1), (0.7, 0, 1), (0.7, 1, 1), (0.7, 0, 2), (0.7, 1, 2)]


def rates(bench, configuration, scores, **options):
    told, scores = [], iter(scores)
    validate = (lambda _: next(scores)) if scores is not None else None
    bench.train(configuration, validate=validate, on_epoch=lambda facts: told.append(facts.learning_rate), **options)
    return told


def test_the_rate_falls_when_the_dice_does_not_rise(bench, caplog):
    caplog.set_level(logging.INFO)
    configuration = bench.configured({"schedule": "plateau", "patience": 2, "factor": 0.5})
    told = rates(bench, configuration, [0.5, 0.4, 0.5, None, 0.6, 0.6], epochs=6)
    assert told == [0.01, 0.01, 0.01, 0.005, 0.005, 0.005]
    assert "epoch 3: no improvement, the learning rate falls to 0.005" in caplog.text


def test_the_rate_falls_when_the_loss_does_not(bench, caplog):
    configuration = bench.configured({"schedule": "plateau", "patience": 1, "factor": 0.5, "watch": "train_loss"})
    told, losses = [], []

    def loss(outputs, target):
        losses.append(1)
        return outputs[0].mean() * 0 + (1.0 if len(losses) <= 4 else 2.0)  # worse from the second epoch on

    bench.train(configuration, loss=loss, epochs=4, on_epoch=lambda facts: told.append(facts.learning_rate))
    assert told == [0.01, 0.01, 0.005, 0.0025]


def test_without_validation_the_loss_is_watched_and_that_is_said(bench, caplog):
    configuration = bench.configured({"schedule": "plateau"}, stop_patience=1)
    assert bench.train(configuration).epoch == 3
    assert "nothing is validated while training, so the learning-rate schedule follows the loss" in caplog.text
    assert "so stop_patience has no effect" in caplog.text


def test_a_resume_keeps_what_the_watches_saw(bench):
    configuration = bench.configured({"schedule": "plateau", "patience": 1, "factor": 0.5}, ema_decay=0.5)
    scores, kept = [0.5, 0.4, 0.4], []
    whole = iter(scores)
    end = bench.train(
        configuration, validate=lambda _: next(whole), on_checkpoint=lambda s: kept.append(bench.reload(s))
    )
    for epoch, content in enumerate(kept, start=1):
        rest = iter(scores[epoch:])
        again = bench.train(configuration, checkpoint=content, validate=lambda _: next(rest))  # noqa: B023
        assert (again.plateau, again.loss_average) == (end.plateau, end.loss_average)
        assert bench.same(again.network, end.network)


def test_stopping_early_says_what_is_kept_and_is_finished(bench, caplog):
    caplog.set_level(logging.INFO)
    scores = iter([0.5, 0.6, 0.605, 0.59, 0.9])
    configuration = bench.configured(stop_patience=2, min_improvement=0.01)
    state = bench.train(configuration, epochs=9, validate=lambda _: next(scores))
    assert (state.epoch, state.finished, state.best_score) == (4, True, 0.605)
    assert "epoch 4: no validation improved on 0.6000 2 times in a row" in caplog.text
    assert "it keeps the weights of this epoch" in caplog.text
    batches = bench.TinyBatches()
    again = bench.train(configuration, epochs=9, checkpoint=bench.reload(state), batches=batches)
    assert again.finished
    assert batches.asked == []


def test_stopping_early_ends_a_time_budget_too(bench):
    scores = iter([0.5, 0.5])
    state = bench.train(
        bench.configured(stop_patience=1), time_budget_s=1e6, validate=lambda _: next(scores), clock=bench.Clock()
    )
    assert (state.epoch, state.finished) == (2, True)


@pytest.mark.parametrize("schedule", ["poly", "cosine", "constant", "step", "plateau"])
def test_a_time_budget_makes_sense_with_every_schedule(bench, schedule):
    told = []
    state = bench.train(
        bench.configured({"schedule": schedule}),
        time_budget_s=130.0,
        clock=bench.Clock(),
        validate=lambda _: 0.5,
        on_epoch=lambda facts: told.append(facts.learning_rate),
    )
    assert state.finished
    assert told == sorted(told, reverse=True)
    assert (told[-1] < 0.2 * told[0]) == (schedule in ("poly", "cosine", "step"))


def test_an_epoch_without_any_finite_loss_poisons_nothing(bench):
    """The moving averages and the best score are those of the epochs around it."""
    states = []
    configuration = bench.configured({"schedule": "plateau", "watch": "train_loss"}, ema_decay=0.9, steps_per_epoch=1)
    scores = iter([0.5, float("nan"), 0.4])
    bench.train(
        configuration,
        batches=bench.TinyBatches(broken=(1,)),
        validate=lambda _: next(scores),
        on_checkpoint=lambda state: states.append(state.capture()),
    )
    first, poisoned, last = states
    assert bench.same(first["averaged"], poisoned["averaged"])
    assert bench.same(first["network"], poisoned["network"])
    assert (poisoned["loss_average"], poisoned["plateau"]) == (first["loss_average"], first["plateau"])
    assert (last["best_score"], last["best_epoch"]) == (0.5, 1)
    assert all(weight.isfinite().all() for weight in last["averaged"].values())
