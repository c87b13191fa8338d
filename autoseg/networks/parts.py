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
    """The tensors of a network by their names.

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
    """The parts of a planned network, found without giving it any numbers.

    What depends on the number of channels, or of outputs, is found by asking for one more of each.

    Raises:
        PlanError: the network does not say which of its parameters are its encoder.
    """

    def shapes(channels: int, outputs: int) -> dict[str, tuple[int, ...]]:
        with FakeTensorMode():
            network = build_network(
                settings, dimensions=dimensions, input_channels=channels, output_channels=outputs, seed=0
            )
        return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}

    own = shapes(input_channels, output_channels)
    inputs = _changed(own, shapes(input_channels + 1, output_channels))
    outputs = _changed(own, shapes(input_channels, output_channels + 1))
    beginnings = network_traits(settings.name).encoder(settings)
    parts: dict[str, Part] = {
        name: "head" if name in outputs else "encoder" if name.startswith(beginnings) else "decoder" for name in own
    }
    if "encoder" not in parts.values():
        raise PlanError(
            f"network '{settings.name}' does not say which of its parameters are its encoder (none begins with "
            f"{', '.join(beginnings)}), so they cannot be trained apart; plan another network, or declare its encoder"
        )
    return NetworkParts(of=parts, inputs=inputs, outputs=outputs)


def _changed(one: Mapping[str, tuple[int, ...]], other: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Name -> the axis along which a tensor grew."""
    grown = {}
    for name, shape in one.items():
        axes = [axis for axis, (n, m) in enumerate(zip(shape, other[name], strict=True)) if n != m]
        if axes:
            grown[name] = axes[0]
    return grown
