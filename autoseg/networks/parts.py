"""Parts of a network: the tensors of its input layer, its logit layers, its encoder and its decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch._subclasses.fake_tensor import FakeTensorMode

from autoseg.core.errors import PlanError
from autoseg.core.records import NetworkSettings
from autoseg.networks.build import build_network, network_traits

Part = Literal["encoder", "decoder", "head"]


@dataclass(frozen=True, kw_only=True)
class NetworkParts:
    """Tensors of a network by name.

    Attributes:
        of: name of every parameter and buffer -> its part; the head holds only what has one value per output.
        inputs: name -> axis of the image channels, of every tensor that has one.
        outputs: name -> axis of the outputs, of every tensor of the head.
    """

    of: Mapping[str, Part]
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


def find_parts(
    settings: NetworkSettings, *, dimensions: int, input_channels: int, output_channels: int
) -> NetworkParts:
    """The parts of a planned network, found with fake tensors (shape and dtype only).

    Tensors that depend on the number of channels, or of outputs, are those that grow with one more of each.

    Raises:
        PlanError: the network does not declare its encoder.
    """

    def shapes(channels: int, outputs: int) -> dict[str, tuple[int, ...]]:
        with FakeTensorMode():
            network = build_network(
                settings, dimensions=dimensions, input_channels=channels, output_channels=outputs, seed=0
            )
        return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}

    planned = shapes(input_channels, output_channels)
    inputs = _changed(planned, shapes(input_channels + 1, output_channels))
    outputs = _changed(planned, shapes(input_channels, output_channels + 1))
    prefixes = network_traits(settings.name).encoder(settings)
    parts: dict[str, Part] = {
        name: "head" if name in outputs else "encoder" if name.startswith(prefixes) else "decoder" for name in planned
    }
    if "encoder" not in parts.values():
        raise PlanError(
            f"network '{settings.name}' does not declare its encoder (no parameter begins with "
            f"{', '.join(prefixes)}), so it cannot be trained separately; plan another network, or declare its encoder"
        )
    return NetworkParts(of=parts, inputs=inputs, outputs=outputs)


def _changed(shapes: Mapping[str, tuple[int, ...]], changed_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Tensor name -> the first axis along which its shape differs."""
    grown = {}
    for name, shape in shapes.items():
        axes = [axis for axis, (n, m) in enumerate(zip(shape, changed_shapes[name], strict=True)) if n != m]
        if axes:
            grown[name] = axes[0]
    return grown
