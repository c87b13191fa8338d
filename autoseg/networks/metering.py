"""Count live bytes and arithmetic of operations on real or fake tensors."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten

_CONVOLUTIONS = {aten.convolution, aten.convolution_backward}


class Meter(TorchDispatchMode):
    """Dispatch mode in which every storage that an operation makes counts from its birth to its death.

    Attributes:
        live: bytes now.
        peak: most bytes at once.
        peak_with_workspace: most bytes at once, if convolutions also held copies of their input and output.
        flops: multiplications and additions of convolutions, matrix products and attention.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = self.peak_with_workspace = 0
        self.flops = 0
        self._clock = self._peak_time = 0
        self._births: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run an operation and count what it made."""
        if func is torch.ops.prim.device.default:
            return args[0].fake_device  # two of three calls; only fake tensors make it
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        packet = func.overloadpacket
        if packet in _FLOPS:
            self.flops += _FLOPS[packet](*args, **kwargs, out_val=result)
        self.hold(leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor))
        if packet in _CONVOLUTIONS:
            # Of a backward pass the first two arguments are the gradient of the output, and the input.
            sides = args[:2] if packet is aten.convolution_backward else (args[0], result)
            workspace = sum(side.untyped_storage().nbytes() for side in sides)
            self.peak_with_workspace = max(self.peak_with_workspace, self.live + workspace)
        return result

    def hold(self, tensors: Iterable[torch.Tensor]) -> None:
        """Count the storages of tensors, made outside or just now, until they die."""
        self._clock += 1
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self._births:
                self._births[key] = self._clock
                self.live += storage.nbytes()
                weakref.finalize(storage, self._release, key, storage.nbytes()).atexit = False
        if self.live > self.peak:
            self.peak, self._peak_time = self.live, self._clock
        self.peak_with_workspace = max(self.peak_with_workspace, self.live)

    def held_at_peak(self, tensors: Iterable[torch.Tensor]) -> int:
        """Bytes of tensors, alive now, that were there already when the peak was reached."""
        storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
        return sum(size for key, size in storages.items() if self._births.get(key, 0) <= self._peak_time)

    def _release(self, key: int, size: int) -> None:
        del self._births[key]
        self.live -= size


def _attention_flops(q: Any, k: Any, v: Any, *args: Any, out_val: Any = None, **kwargs: Any) -> int:
    return sdpa_flop_count(q.shape, k.shape, v.shape)


def _attention_backward_flops(gradient: Any, q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_backward_flop_count(gradient.shape, q.shape, k.shape, v.shape)


def _convolution_backward_flops(gradient: Any, x: Any, weight: Any, *args: Any, **kwargs: Any) -> int:
    """The gradient of the input costs what the forward pass does, and so does that of the weights.

    The formula of torch counts every input channel against every output channel, which is 20 times too much in networks
    of depthwise convolutions.
    """
    transposed, mask = args[4], args[7]
    pixels = math.prod((x if transposed else gradient).shape[2:])
    return 2 * x.shape[0] * pixels * math.prod(weight.shape) * (bool(mask[0]) + bool(mask[1]))


# Formulas of torch.utils.flop_counter, counted in this mode: its FlopCounterMode would be a second dispatch mode around
# every operation of a pass over fake tensors, and its table has attention on a GPU only.
_FLOPS: dict[Any, Any] = {
    **flop_registry,
    aten.convolution_backward: _convolution_backward_flops,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}
