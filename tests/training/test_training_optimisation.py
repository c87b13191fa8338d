"""Learning rate, optimisers, precision and the moving average."""

import pytest
import torch
from torch import nn

from autoseg.core import devices
from autoseg.core.devices import choose_precision
from autoseg.core.records import OptimiserSettings, TrainingSettings
from autoseg.training import learning_rate
from autoseg.training.optimisation import Muon, build_optimiser, move_average, orthogonalise


@pytest.mark.parametrize(
    ("settings", "progress", "rate"),
    [
        ({}, 0.0, 0.01),
        ({}, 0.5, 0.01 * 0.5**0.9),
        ({}, 1.0, 0.0),
        ({}, 1.2, 0.0),
        ({"schedule": "constant"}, 0.9, 0.01),
        ({"schedule": "cosine"}, 0.0, 0.01),
        ({"schedule": "cosine"}, 0.5, 0.005),
        ({"schedule": "cosine"}, 1.0, 0.0),
        ({"warmup_share": 0.2}, 0.0, 0.0),
        ({"warmup_share": 0.2}, 0.1, 0.005),
        ({"warmup_share": 0.2}, 0.2, 0.01),
        ({"warmup_share": 0.2}, 0.6, 0.01 * 0.5**0.9),
    ],
)
def test_learning_rate(settings, progress, rate):
    assert learning_rate(OptimiserSettings(**settings), progress) == pytest.approx(rate, abs=1e-12)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "muon"])
def test_optimisers_take_the_plans_numbers(name):
    settings = OptimiserSettings(name=name, learning_rate=0.02, momentum=0.8, weight_decay=0.001)
    group = build_optimiser([nn.Parameter(torch.ones(2))], settings).param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.02, 0.001)
    if name == "sgd":
        assert group["momentum"] == 0.8
        assert group["nesterov"]
    else:
        assert tuple(group["betas"]) == (0.8, 0.999)


@pytest.mark.parametrize("shape", [(16, 144), (144, 16), (24, 24)])
def test_an_orthogonalised_matrix_keeps_its_directions_and_loses_its_sizes(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    sizes = left.T @ orthogonalise(matrix) @ right.T
    diagonal = sizes.diagonal()
    assert diagonal.min() > 0.6
    assert diagonal.max() < 1.25
    assert (sizes - diagonal.diag()).abs().max() < 1e-3
    assert torch.allclose(orthogonalise(1000 * matrix), orthogonalise(matrix), atol=1e-4)


def test_muon_turns_kernels_into_orthogonal_steps_and_leaves_the_rest_to_adamw():
    numbers = torch.Generator().manual_seed(1)
    kernel, narrow, bias = (torch.randn(shape, generator=numbers) for shape in ((8, 16, 3, 3), (8, 1, 3, 3), (8,)))
    settings = OptimiserSettings(name="muon", learning_rate=0.01, momentum=0.5, weight_decay=0.1)
    adamw = OptimiserSettings(name="adamw", learning_rate=0.01, momentum=0.5, weight_decay=0.1)
    weights, others = ([nn.Parameter(w.clone()) for w in (kernel, narrow, bias)] for _ in range(2))
    optimisers = build_optimiser(weights, settings), build_optimiser(others, adamw)
    gradients = [torch.randn(w.shape, generator=numbers) for w in weights]
    for owned, optimiser in zip((weights, others), optimisers, strict=True):
        for weight, gradient in zip(owned, gradients, strict=True):
            weight.grad = gradient.clone()
        optimiser.step()
    assert torch.equal(weights[1], others[1])
    assert torch.equal(weights[2], others[2])
    # The momentum after one step is half the gradient, and Nesterov's look ahead three quarters of it.
    step = orthogonalise(0.75 * gradients[0].flatten(1)).view_as(kernel)
    expected = kernel * (1 - 0.01 * 0.1) - 0.01 * 0.2 * 144**0.5 * step  # 16 * 3 * 3 columns
    assert torch.allclose(weights[0], expected, atol=1e-6)


def test_a_step_of_muon_that_may_not_be_taken_changes_nothing():
    kernel = nn.Parameter(torch.ones(8, 8, 3, 3))
    optimiser = Muon([kernel], lr=0.01, weight_decay=0.1, fused=True)  # as on a GPU, where no one waits for the flag
    for found in (1.0, 0.0):
        optimiser.found_inf = torch.tensor(found)
        kernel.grad = torch.full_like(kernel, torch.inf if found else 1.0)
        optimiser.step()
        assert torch.equal(kernel, torch.ones_like(kernel)) == bool(found)
    assert optimiser.state[kernel]["momentum"].isfinite().all()


def test_a_cpu_computes_in_float32_unless_it_has_bfloat16_and_the_plan_asks_for_it(monkeypatch):
    cpu = torch.device("cpu")
    assert choose_precision(TrainingSettings(), cpu) is torch.float32
    for able, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda able=able: able)
        assert choose_precision(TrainingSettings(precision="bfloat16"), cpu) is expected


def test_average_starts_fast_and_slows_down():
    averaged = {"w": torch.zeros(1), "count": torch.tensor(0)}
    move_average(averaged, {"w": torch.ones(1), "count": torch.tensor(5)}, decay=0.9, step=1)
    assert averaged["w"].item() == pytest.approx(1 - 2 / 11)
    assert averaged["count"].item() == 5
    averaged["w"].zero_()
    move_average(averaged, {"w": torch.ones(1), "count": torch.tensor(6)}, decay=0.9, step=1000)
    assert averaged["w"].item() == pytest.approx(0.1)
