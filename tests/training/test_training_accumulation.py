"""A batch in parts gives the step of the whole batch; memory that runs out is said, and nothing is lost."""

import pytest
import torch

from autoseg.core.errors import MemoryShortageError, is_memory_shortage


class Plain(torch.nn.Module):
    """No batch norm: samples do not see each other."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv3d(1, 4, 3, padding=1), torch.nn.LeakyReLU(), torch.nn.Conv3d(4, 2, 1)
        )

    def forward(self, x):
        return [self.layers(x)]


class Short(torch.nn.Module):
    """A network whose forward pass runs out of memory from some call on."""

    def __init__(self, network, error, calls):
        super().__init__()
        self.network, self.error, self.calls = network, error, calls

    def forward(self, x):
        self.calls -= 1
        if self.calls < 0:
            raise self.error
        return self.network(x)


def plain():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Plain()


@pytest.mark.parametrize("clip", [12.0, 0.01])
def test_two_parts_give_the_step_of_the_whole_batch(bench, clip):
    weights = []
    for parts in (1, 2):
        network = plain()
        configuration = bench.configured({"gradient_clip": clip}, accumulation=parts)
        state = bench.train(configuration, network=network)
        weights.append(state.network.state_dict())
    for name, whole in weights[0].items():
        torch.testing.assert_close(weights[1][name], whole, rtol=1e-5, atol=1e-6)


def test_the_loss_of_a_batch_in_parts_is_the_mean_of_its_parts(bench):
    losses = []
    for parts in (1, 2):
        rows = []
        bench.train(
            bench.configured(accumulation=parts, epochs=1, steps_per_epoch=1),
            network=plain(),
            on_epoch=lambda facts: rows.append(facts.train_loss),  # noqa: B023
        )
        losses += rows
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_a_broken_part_leaves_the_weights_alone(bench):
    network = plain()
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    configuration = bench.configured(accumulation=2, epochs=1, steps_per_epoch=1)
    bench.train(configuration, network=network, batches=bench.TinyBatches(broken=(0,)))
    assert bench.same(before, network.state_dict())


def test_parts_must_divide_the_batch(bench):
    with pytest.raises(ValueError, match=r"training.accumulation 3 must divide batch_size 2"):
        bench.configured(accumulation=3)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    ],
    ids=["GPU", "CPU"],
)
def test_memory_that_runs_out_says_where_and_with_what(bench, error):
    network = Short(plain(), error, calls=5)
    with pytest.raises(
        MemoryShortageError, match=r"ran out of memory at step 3 with 1 samples of shape \(1, 4, 6, 8\)"
    ):
        bench.train(bench.configured(accumulation=2), network=network)
    assert all(weight.grad is None for weight in network.parameters())


def test_another_runtime_error_is_no_shortage():
    assert not is_memory_shortage(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_really_too_much_memory_on_a_cpu_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_memory_shortage(caught.value)
