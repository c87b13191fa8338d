"""How the network is computed: the fastest way that is worth trying, and always the same training."""

import logging

import pytest
import torch

from autoseg.core.records import LossSettings
from autoseg.losses import build_loss
from autoseg.training import Ranks
from autoseg.training.acceleration import (
    DESCRIPTIONS,
    StepTimer,
    choose_backend,
    fastest_backend,
    make_backend,
    trial_budget_s,
)
from autoseg.training.length import TrainingLength

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def no_compiler(network, **_):
    """What torch.compile gives where there is no C++ compiler: it fails at the first call."""

    def call(image):
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nSet CXX")

    return call


@pytest.fixture
def on_bench(bench, monkeypatch):
    """Makes what a step is tried with."""

    def make(*, budget_s=10_000.0, device=CPU, **training):
        batches = bench.TinyBatches()
        if device is GPU:
            monkeypatch.setattr(StepTimer, "device", GPU)
        return StepTimer(
            network=bench.network().train(),
            configuration=bench.configured(**training),
            loss=build_loss(LossSettings()),
            draw=lambda: batches.batch(0),
            length=TrainingLength(steps=1, time_budget_s=budget_s),
        )

    return make


@pytest.fixture
def seconds(monkeypatch):
    """Sets what each way takes; gives the list of ways tried."""

    def set_to(**taken):
        tried = []
        monkeypatch.setattr(StepTimer, "time", lambda self, way, *_, **__: tried.append(way) or taken[way])
        return tried

    return set_to


@pytest.mark.parametrize(
    ("taken", "best"),
    [
        ({"none": 1.0, "channels_last": 0.8, "compile": 0.9}, "channels_last"),
        ({"none": 1.0, "channels_last": 0.8, "compile": 0.5}, "compile"),
        ({"none": 1.0, "channels_last": 0.96, "compile": 1.5}, "none"),  # 4 % are not worth it
    ],
)
def test_the_fastest_way_is_taken_and_the_figures_are_said(on_bench, seconds, caplog, taken, best):
    seconds(**taken)
    with caplog.at_level(logging.INFO):
        assert fastest_backend(on_bench()) == best
    (line,) = [record.getMessage() for record in caplog.records]
    assert all(f"{DESCRIPTIONS[way]} {value:.3g} s" in line for way, value in taken.items())
    assert line.endswith(f"computing the network {DESCRIPTIONS[best]}")


@pytest.mark.parametrize(
    ("budget_s", "tried"),
    [
        (299.0, []),
        (300.0, ["none"]),  # 3 % are 9 s: five steps of a second are gone, five more are too many
        (400.0, ["none", "channels_last"]),
        (5000.0, ["none", "channels_last", "compile"]),
    ],
)
def test_trials_take_no_more_than_their_share(on_bench, seconds, budget_s, tried):
    found = seconds(none=1.0, channels_last=1.0, compile=1.0)
    assert fastest_backend(on_bench(budget_s=budget_s)) == "none"
    assert found == tried


@pytest.mark.parametrize(
    ("time_budget_s", "epochs", "expected"),
    [(299.0, 1, None), (600.0, 1, 18.0), (None, 83, None), (None, 84, 0.03 * 4 * 84 * 2)],
)
def test_a_short_training_times_nothing(bench, time_budget_s, epochs, expected):
    length = TrainingLength.of(bench.configured(epochs=epochs).training, time_budget_s)  # 4 steps an epoch
    assert trial_budget_s(length, 2.0) == pytest.approx(expected)


def test_a_way_that_runs_out_of_memory_is_said_and_passed_over(on_bench, seconds, caplog):
    seconds(none=1.0, channels_last="out of memory", compile=0.9)
    assert fastest_backend(on_bench()) == "compile"
    assert "the network cannot be computed with channels last (out of memory)" in caplog.text


def test_a_trial_changes_no_weight_statistic_or_gradient(on_bench):
    tried = on_bench()
    before = {name: value.clone() for name, value in tried.network.state_dict().items()}
    for way in ("none", "channels_last"):
        assert tried.time(way) > 0
        assert all(torch.equal(value, before[name]) for name, value in tried.network.state_dict().items())
        assert all(weight.grad is None for weight in tried.network.parameters())
        assert all(weight.is_contiguous() for weight in tried.network.parameters())


def test_on_a_cpu_auto_tries_nothing(on_bench, seconds):
    found = seconds()
    assert choose_backend(on_bench(), previous=None, ranks=Ranks()).name == "none"
    assert choose_backend(on_bench(), previous="channels_last", ranks=Ranks()).name == "none"
    assert found == []


def test_on_a_gpu_a_training_goes_on_as_it_was_begun(on_bench, seconds):
    found = seconds(none=1.0, channels_last=0.5, compile=2.0)
    assert choose_backend(on_bench(device=GPU), previous=None, ranks=Ranks()).name == "channels_last"
    assert (
        choose_backend(on_bench(device=GPU, budget_s=1.0), previous="channels_last", ranks=Ranks()).name
        == "channels_last"
    )
    assert found == ["none", "channels_last", "compile"]


def test_a_compiler_that_fails_is_named_and_the_training_goes_on(bench, monkeypatch, caplog):
    monkeypatch.setattr(torch, "compile", no_compiler)
    state = bench.train(bench.configured(acceleration="compile"))
    assert (state.finished, state.acceleration) == (True, "none")
    assert "cannot be compiled, so it is computed as written (RuntimeError: InvalidCxxCompiler" in caplog.text
    assert bench.same(state.network, bench.train().network)


def test_what_is_compiled_is_what_trains(bench, monkeypatch):
    compiled, calls = [], []

    def compile_it(network, **_):
        compiled.append(network)
        return lambda image: calls.append(1) or network(image)

    monkeypatch.setattr(torch, "compile", compile_it)
    state = bench.train(bench.configured(acceleration="compile"))
    assert state.acceleration == "compile"
    assert len(calls) == 1 + 12  # once to see that it works
    assert bench.same(state.network, bench.train().network)


@pytest.mark.parametrize("stop_after", [1, 6])
def test_channels_last_resumes_bit_for_bit(bench, stop_after):
    configuration = bench.configured(acceleration="channels_last", ema_decay=0.5)
    whole, steps = bench.train(configuration), bench.TinyBatches()
    stopped = bench.train(configuration, batches=steps, should_stop=lambda: len(steps.asked) >= stop_after)
    resumed = bench.train(configuration, checkpoint=bench.reload(stopped))
    assert stopped.acceleration == "channels_last"
    assert bench.same(resumed.network, whole.network)
    assert bench.same(resumed.averaged, whole.averaged)


def test_channels_last_learns_the_same(bench):
    learned = []
    for way in ("none", "channels_last"):
        network = bench.network()
        network.layers[3].p = 0.0  # dropout draws in the order of the memory
        learned.append(bench.train(bench.configured(acceleration=way), network=network).network.state_dict())
    for name, weight in learned[0].items():
        torch.testing.assert_close(learned[1][name], weight, rtol=1e-4, atol=1e-5)


def test_weights_are_laid_out_as_the_way_says(bench):
    network = bench.network()
    weight = network.layers[0].weight
    backend = make_backend(network, "channels_last", 3)
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert backend.network(torch.zeros(1, 1, 4, 6, 8))[0].shape == (1, 2, 4, 6, 8)
