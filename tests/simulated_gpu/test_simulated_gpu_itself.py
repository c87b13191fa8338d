"""The simulated card behaves as torch does with a real one."""

import copy
import gc
import threading

import numpy as np
import pytest
import torch
from torch import nn

MIB = 1 << 20


def test_tensors_are_where_they_were_put(machine):
    machine(1, 1)
    first, second = torch.zeros(2, device="cuda"), torch.zeros(2, device="cuda:1")
    assert (first.device, second.device) == (torch.device("cuda:0"), torch.device("cuda:1"))
    assert first.is_cuda
    assert not first.is_cpu
    assert torch.zeros(2).device == first.cpu().device == torch.device("cpu")
    assert (first + 1).device == first[:1].device == torch.zeros_like(first).device == first.device
    assert torch.nn.functional.one_hot(first.long(), 3).device == first.device
    assert copy.deepcopy(second).device == second.device
    assert first.to(second).device == second.device


def test_devices_are_not_mixed(machine):
    machine(1, 1)
    here, there, other = torch.ones(2), torch.ones(2, device="cuda"), torch.ones(2, device="cuda:1")
    for pair in ((here, there), (there, other)):
        with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
            pair[0] + pair[1]
    with pytest.raises(RuntimeError, match="same device"):
        nn.Linear(2, 2)(there)
    with pytest.raises(RuntimeError, match="same device"):
        torch.stack([torch.tensor(1.0), there[0]])
    with pytest.raises(RuntimeError, match="same device"):
        here[torch.tensor([0], device="cuda")]
    assert (there * torch.tensor(2.0)).device == there.device  # numbers may come from the CPU,
    assert there[torch.tensor([1, 0])].device == there.device  # and so may indices
    here.copy_(there)
    assert here.device.type == "cpu"


def test_what_a_card_holds_is_not_numpys(machine):
    machine(1)
    x = torch.ones(2, device="cuda")
    for convert in (x.numpy, lambda: np.asarray(x)):
        with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
            convert()
    assert x.cpu().numpy().tolist() == [1, 1]
    with pytest.raises(RuntimeError, match="cannot pin"):
        x.pin_memory()
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found 'cpu'"):
        torch.rand(2, device="cuda", generator=torch.Generator())
    assert torch.rand(2, device="cuda", generator=torch.Generator(device="cuda")).is_cuda


def test_networks_move_train_and_come_back(machine):
    machine(1)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)).to("cuda")
    assert {t.device.type for t in (*network.parameters(), *network.buffers())} == {"cuda"}
    optimiser = torch.optim.AdamW(network.parameters())
    network(torch.randn(2, 1, 8, 8, device="cuda")).mean().backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()
    assert {weight.grad.device.type for weight in network.parameters()} == {"cuda"}
    assert {s["exp_avg"].device.type for s in optimiser.state.values()} == {"cuda"}
    loaded = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    loaded.load_state_dict(network.state_dict())
    assert loaded[0].weight.device.type == "cpu"


def test_memory_is_counted_from_birth_to_death(machine):
    card = machine(1).cards[0]
    x = torch.zeros(MIB, device="cuda")
    assert torch.cuda.memory_allocated() == 4 * MIB
    y = x * 2  # a new one
    view = y[:10]  # no new one
    assert torch.cuda.memory_allocated() == 8 * MIB
    del y
    assert torch.cuda.memory_allocated() == 8 * MIB  # the view holds it
    del view
    gc.collect()
    assert torch.cuda.memory_allocated() == 4 * MIB
    assert torch.cuda.max_memory_allocated() == torch.cuda.memory_reserved() == 8 * MIB
    assert torch.cuda.mem_get_info() == (card.total - 8 * MIB, card.total)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    assert torch.cuda.max_memory_allocated() == torch.cuda.max_memory_reserved() == 4 * MIB


def test_activations_count_until_the_backward_pass_has_used_them(machine):
    machine(1)
    x = torch.zeros(MIB, device="cuda", requires_grad=True)
    loss = x.sigmoid().tanh().sum()
    assert torch.cuda.memory_allocated() == 12 * MIB + 512
    loss.backward()
    del loss
    assert torch.cuda.memory_allocated() == 8 * MIB  # x and its gradient


def test_memory_runs_out(machine):
    machine(0.01).cards[0].others = 1_000_000
    torch.zeros(2_000_000, device="cuda")
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        torch.zeros(2_300_000, device="cuda")
    assert torch.cuda.memory_allocated() == 0


def test_whatever_makes_the_cpu_wait_is_noted(machine):
    cards = machine(1)
    x = torch.ones(4, device="cuda")
    pinned = torch.ones(4, pin_memory=True)
    assert pinned.is_pinned()
    cards.waits.clear()
    pinned.to("cuda", non_blocking=True)
    x.to("cpu", non_blocking=True)
    x[x > 0] = 2.0
    x.clamp_(max=1)
    assert cards.waits == []
    for wait in (
        lambda: x.sum().item(), lambda: float(x[0]), lambda: bool(x[0] > 0), x.cpu, x.tolist,
        lambda: x[x > 0], x.nonzero, lambda: torch.ones(4).to("cuda", non_blocking=True),
        lambda: pinned.to("cuda"), lambda: torch.tensor([1.0], device="cuda"), torch.cuda.synchronize,
    ):  # fmt: skip
        cards.waits.clear()
        wait()
        assert len(cards.waits) == 1


def test_threads_see_the_cards(machine):
    machine(1)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.zeros(1, device="cuda").device.type))
    thread.start()
    thread.join()
    assert seen == ["cuda"]
