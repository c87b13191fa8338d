"""Memory and arithmetic of training and prediction with any network, from a pass over fake tensors."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import get_gradient_edge
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from autoseg.core.records import NetworkSettings
from autoseg.networks.build import build_network, network_traits
from autoseg.networks.metering import Meter
from autoseg.networks.traits import check_input_size

Optimiser = Literal["sgd", "adam", "adamw", "muon"]

# Numbers per weight that an optimiser keeps: momentum, or two moments.
_STATES: dict[str, int] = {"sgd": 1, "adam": 2, "adamw": 2, "muon": 2}


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Peak bytes on the device, and arithmetic. The device's own context comes on top.

    Attributes:
        parameters: weights and buffers.
        gradients: of the weights, as far as they exist at that moment.
        optimiser_state: momentum or moments, and the averaged weights if there are any.
        activations_peak: everything else: batch, activations, half-precision copies of weights, temporaries.
        workspace: what convolutions add if they rearrange input and output; an allowance, not a measurement.
        total: the sum of all above.
        prediction_peak: bytes while one tile is predicted, workspace not included.
        forward_flops, step_flops: multiplications and additions of a forward pass; of a whole training step.
    """

    parameters: int
    gradients: int
    optimiser_state: int
    activations_peak: int
    workspace: int
    prediction_peak: int
    forward_flops: int
    step_flops: int

    @property
    def total(self) -> int:
        """Peak bytes of a training step."""
        return self.parameters + self.gradients + self.optimiser_state + self.activations_peak + self.workspace


def estimate_training_memory(
    settings: NetworkSettings,
    image_shape: Sequence[int],
    *,
    output_channels: int,
    optimiser: Optimiser,
    half: bool,
    averaged: bool = False,
    accumulated: bool = False,
) -> MemoryEstimate:
    """Peak memory of training a network, estimated in seconds without allocating it.

    Forward pass, loss (Dice and cross-entropy at every head) and backward pass run once over fake tensors (shape and
    dtype only), while a dispatch mode counts which storages live at once. The optimiser's share is arithmetic.

    Args:
        settings: any registered network.
        image_shape: (B,C,*patch) of a batch, in 2D or 3D.
        output_channels: logits per voxel.
        optimiser: which state it keeps.
        half: mixed precision as on a GPU.
        averaged: averaged weights are kept, too.
        accumulated: with gradient accumulation, so that gradients of earlier parts are held all the time.

    Raises:
        UsageError: no such network.
        PlanError: settings or a patch that it cannot have.
    """
    batch, input_channels, *patch = image_shape
    check_input_size(settings, network_traits(settings.name), patch)
    with FakeTensorMode():
        network = build_network(
            settings,
            dimensions=len(patch),
            input_channels=input_channels,
            output_channels=output_channels,
            seed=0,
        )
        image = torch.empty(tuple(image_shape))
        target = torch.zeros((batch, *patch), dtype=torch.int16)
        step = measure_step(network, image, target, half=half)
        gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
        gradients_at_peak = step.meter.held_at_peak(gradients)
        prediction_peak = measure_prediction(network, image[:1].clone(), half=half)
        estimate = _compose(network, step, gradients_at_peak, optimiser, averaged, prediction_peak)
    if accumulated:  # the pass was that of the first part; in the others all gradients are there from the start
        weights = sum(weight.nbytes for weight in network.parameters() if weight.requires_grad)
        estimate = replace(estimate, gradients=weights)
    return estimate


@dataclass(frozen=True, kw_only=True)
class MeasuredStep:
    """Counts of one forward and backward pass.

    Attributes:
        meter: bytes and arithmetic.
        forward_flops: arithmetic of the forward pass.
        left: bytes in use when the optimiser takes over.
    """

    meter: Meter
    forward_flops: int
    left: int


def measure_step(network: nn.Module, image: Tensor, target: Tensor, *, half: bool) -> MeasuredStep:
    """Run forward, ``stand_in_loss`` and backward on tensors, real or fake, on the CPU; gradients stay in the network.

    Args:
        network: in training mode, without gradients.
        image: (B,C,*patch) float32.
        target: (B,*patch) integer.
        half: mixed precision as on a GPU.
    """
    meter = Meter()
    meter.hold([*network.parameters(), *network.buffers(), image, target])
    with meter, _gpu_types(half):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            outputs = network(image)
        forward_flops = meter.flops
        value = stand_in_loss(outputs, target)
        # As value.backward(), during which the mode would be off; checkpointed stages need the same types.
        torch.autograd.backward(get_gradient_edge(value), torch.ones_like(value))
        del outputs, value  # as in the training loop, before the optimiser's step
        return MeasuredStep(meter=meter, forward_flops=forward_flops, left=meter.live)


def measure_prediction(network: nn.Module, image: Tensor, *, half: bool) -> int:
    """Most bytes at once while (B,C,*tile) float32 is predicted without deep supervision; weights included."""
    deep, training = network.deep_supervision, network.training
    network.deep_supervision = False  # type: ignore[assignment]
    network.eval()
    meter = Meter()
    meter.hold([*network.parameters(), *network.buffers(), image])
    with meter, torch.no_grad(), _gpu_types(half), torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        network(image)
    network.deep_supervision = deep
    network.train(training)
    return meter.peak


def stand_in_loss(outputs: Sequence[Tensor], target: Tensor) -> Tensor:
    """Soft Dice and cross-entropy at every head, with the cost of the usual loss; any target of that shape will do.

    Args:
        outputs: (B,K,*spatial) logits, finest first.
        target: (B,*spatial) integer.
    """
    terms = []
    for logits in outputs:
        steps = [fine // coarse for fine, coarse in zip(target.shape[1:], logits.shape[2:], strict=True)]
        labels = target[(slice(None), *(slice(None, None, step) for step in steps))].long()
        values = functional.cross_entropy(logits.float(), labels, reduction="none").flatten()
        numbers = logits.float()
        probabilities = numbers.softmax(1)
        one_hot = torch.zeros_like(numbers, dtype=torch.bool).scatter_(1, labels[:, None], True)
        axes = tuple(range(2, numbers.ndim))
        overlap = (probabilities * one_hot).sum(axes) / (probabilities.sum(axes) + one_hot.sum(axes) + 1e-5)
        terms.append(values.mean() - overlap.mean())
    return torch.stack(terms).sum()


def _compose(
    network: nn.Module,
    step: MeasuredStep,
    gradients_at_peak: int,
    optimiser: Optimiser,
    averaged: bool,
    prediction_peak: int,
) -> MemoryEstimate:
    """The peak: in the backward pass, or when the optimiser updates the weights."""
    weights = sum(weight.nbytes for weight in network.parameters() if weight.requires_grad)
    parameters = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
    meter = step.meter
    # On a GPU the optimiser works on all weights at once and makes one temporary of their size.
    if step.left + weights > meter.peak_with_workspace:
        gradients = sum(weight.grad.nbytes for weight in network.parameters() if weight.grad is not None)
        activations, workspace = step.left + weights - parameters - gradients, 0
    else:
        gradients = gradients_at_peak
        activations, workspace = meter.peak - parameters - gradients, meter.peak_with_workspace - meter.peak
    return MemoryEstimate(
        parameters=parameters,
        gradients=gradients,
        optimiser_state=_STATES[optimiser] * weights + parameters * averaged,
        activations_peak=activations,
        workspace=workspace,
        prediction_peak=prediction_peak,
        forward_flops=step.forward_flops,
        step_flops=meter.flops,
    )


def _gpu_types(half: bool) -> AbstractContextManager[object]:
    """Have the CPU's mixed precision choose the types that a GPU's would."""
    return _FullPrecision() if half else nullcontext()


class _FullPrecision(TorchFunctionMode):
    """Under CUDA's autocast these stay in float32; under the CPU's they do not, though all other types agree.

    Source: "CUDA Ops that can autocast to float32" in PyTorch's documentation of torch.amp.
    """

    FUNCTIONS = frozenset(
        {
            functional.layer_norm,
            functional.group_norm,
            functional.softmax,
            torch.softmax,
            Tensor.softmax,
            torch.layer_norm,
            torch.group_norm,
        }
    )

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Widen the tensors that such a function is given."""
        if func in self.FUNCTIONS and torch.is_autocast_enabled("cpu"):
            args = tuple(_widen(argument) for argument in args)
            kwargs = {name: _widen(argument) for name, argument in (kwargs or {}).items()}
        return func(*args, **(kwargs or {}))


def _widen(argument: Any) -> Any:
    is_half = isinstance(argument, Tensor) and argument.dtype == torch.bfloat16
    return argument.float() if is_half else argument
