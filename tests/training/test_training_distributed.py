"""Two processes on the CPU train as one: the same steps, the same weights, the same decisions."""

import socket
import time

import pytest
import torch
from torch import nn

from autoseg.core.errors import TrainingError
from autoseg.core.records import LossSettings, TransferSettings
from autoseg.losses import build_loss
from autoseg.training import Hooks, Ranks, TrainingState, joined, train_fold

CPU = torch.device("cpu")
LOSS = build_loss(LossSettings(deep_supervision_weights=(1.0, 0.0)))


class Plain(nn.Module):
    """No batch norm: samples do not see each other. The second head has no loss, as the coarsest has in a plan."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv3d(1, 4, 3, padding=1)
        self.heads = nn.ModuleList([nn.Conv3d(4, 2, 1), nn.Conv3d(4, 2, 1)])

    def forward(self, x):
        x = torch.nn.functional.leaky_relu(self.body(x))
        return [head(x) for head in self.heads]


class Normed(Plain):
    """Running statistics, which differ from process to process unless they are shared."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4))


class Share:
    """A rank's samples of batches of four; ``broken`` is a (step, sample) that holds a NaN."""

    def __init__(self, ranks, broken=None):
        self.ranks, self.broken = ranks, broken

    def batch(self, step, stage=0):
        image = torch.randn((4, 1, 4, 6, 8), generator=torch.Generator().manual_seed(step))
        target = (image[:, 0] > 0.5).to(torch.int16)
        if self.broken is not None and self.broken[0] == step:
            image[self.broken[1]] = torch.nan
        return image[self.ranks.rank :: self.ranks.world], target[self.ranks.rank :: self.ranks.world]


def train(ranks, configuration, kind=Plain, broken=None, budget_s=None, clock=time.monotonic, **options):
    torch.manual_seed(3)
    facts, batches = [], Share(ranks, broken)
    state = TrainingState.start(kind(), configuration)
    hooks = Hooks(on_epoch=facts.append, **options)
    train_fold(state, configuration, batches, LOSS, hooks=hooks, ranks=ranks, time_budget_s=budget_s, clock=clock)
    return state, facts


def one_rank(rank, port, folder, job, arguments):
    torch.set_num_threads(1)
    ranks = Ranks(rank=rank, world=2, local=rank, neighbours=2)
    import os

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with joined(ranks, CPU):
        torch.save(job(ranks, *arguments), folder / f"{rank}.pt")


def together(folder, job, *arguments):
    """What a job gives in each of two processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(one_rank, (port, folder, job, arguments), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def train_all(ranks, configurations, broken):
    found = []
    for configuration in configurations:
        state, facts = train(ranks, configuration, broken=broken)
        found.append((state.network.state_dict(), [fact.train_loss for fact in facts], state.step))
    return found


@pytest.fixture
def configurations(bench):
    base = bench.configured({"weight_decay": 0.01, "gradient_clip": 0.5}, ema_decay=0.5).model_copy(
        update={"batch_size": 4}
    )
    parts = base.training.model_copy(update={"accumulation": 2})
    adam = base.optimiser.model_copy(update={"name": "adamw", "learning_rate": 1e-3})
    return [base, base.model_copy(update={"training": parts}), base.model_copy(update={"optimiser": adam})]


@pytest.mark.parametrize("broken", [None, (5, 1)], ids=["whole", "a NaN in one process"])
def test_two_ranks_take_the_steps_of_one(tmp_path, configurations, broken):
    found = together(tmp_path, train_all, configurations, broken)
    for number, configuration in enumerate(configurations):
        alone, facts = train(Ranks(), configuration, broken=broken)
        (first, losses, steps), (second, _, _) = (rank[number] for rank in found)
        assert steps == alone.step
        assert losses == pytest.approx([fact.train_loss for fact in facts], rel=1e-5)
        for name, weight in alone.network.state_dict().items():
            assert torch.equal(first[name], second[name])
            torch.testing.assert_close(first[name], weight, rtol=1e-5, atol=1e-5)


def decide(ranks, configuration):
    """Only the first validates and has the clock of the budget; only the second gets a signal."""
    scores = iter([0.5, 0.6, 0.6, 0.6])
    validated = []

    def validate(network):
        validated.append(1)
        return next(scores)

    long = configuration.training.model_copy(update={"epochs": 20})
    early, _ = train(ranks, configuration.model_copy(update={"training": long}), validate=validate)
    seconds = iter(range(0, 100000, 1 + 4 * ranks.rank))
    budget, facts = train(ranks, configuration, budget_s=300.0, clock=lambda: float(next(seconds)))
    asked = []

    def should_stop():
        asked.append(1)
        return ranks.rank == 1 and len(asked) == 6

    stopped, _ = train(ranks, configuration, should_stop=should_stop)
    normed, _ = train(ranks, configuration, kind=Normed)
    return (
        (early.epoch, early.step, early.finished, len(validated)),
        (budget.step, budget.finished, len(facts)),
        (stopped.step, stopped.finished),
        normed.network.state_dict(),
    )


def test_ranks_decide_alike(tmp_path, bench):
    first, second = together(tmp_path, decide, bench.configured(stop_patience=2).model_copy(update={"batch_size": 4}))
    assert first[0] == (4, 16, True, 4)
    assert second[0] == (4, 16, True, 0)
    assert first[1][:2] == second[1][:2]
    assert first[1][1]
    assert second[1][2] == 0  # only the first is told of epochs
    assert first[2] == second[2] == (5, False)
    assert bench.same(first[3], second[3])


def lose_the_other(ranks, configuration):
    import os

    class Fragile(Share):
        def batch(self, step, stage=0):
            if ranks.rank == 1 and step == 3:
                os._exit(0)
            return super().batch(step)

    kept = []
    torch.manual_seed(3)
    state, hooks = TrainingState.start(Normed(), configuration), Hooks(on_checkpoint=lambda s: kept.append(s.capture()))
    try:
        train_fold(state, configuration, Fragile(ranks), LOSS, hooks=hooks, ranks=ranks)
    except TrainingError as error:
        return str(error), kept[0]["step"], kept[0]["network"]
    return None


def test_a_rank_that_dies_is_said_and_the_state_of_the_last_step_is_whole(tmp_path, bench):
    configuration = bench.configured().model_copy(update={"batch_size": 4})
    torch.save(None, tmp_path / "1.pt")
    (sentence, step, network), _ = together(tmp_path, lose_the_other, configuration)
    assert "another of the processes that train together has ended" in sentence
    assert step == 3
    assert torch.isfinite(network["body.1.running_mean"]).all()
    assert int(network["body.1.num_batches_tracked"]) == 3


def test_shares_of_a_batch_are_that_batch(bench):
    parts = [Share(Ranks(rank=rank, world=2)).batch(7)[0] for rank in range(2)]
    whole = Share(Ranks()).batch(7)[0]
    assert torch.equal(torch.stack(parts, 1).flatten(0, 1), whole)


def gradual(ranks, configuration):
    torch.manual_seed(3)
    network = Normed()
    parts = {name: "encoder" if name.startswith("body") else "head" for name in network.state_dict()}
    state = TrainingState.start(network, configuration, parts=parts)
    train_fold(state, configuration, Share(ranks), LOSS, ranks=ranks)
    return network.state_dict()


def test_two_processes_train_the_encoder_from_the_same_step_on(bench, tmp_path):
    settings = TransferSettings(source="a", weights="b", digest="c", mode="gradual", unfreeze_share=0.5)
    configuration = bench.configured().model_copy(update={"batch_size": 4, "transfer": settings})
    first, second = together(tmp_path, gradual, configuration)
    assert bench.same(first, second)
    assert not torch.equal(first["body.1.running_mean"], torch.zeros(4))  # it rested, and then it moved
