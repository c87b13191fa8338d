"""Which weights move, and how fast, in a training that begins with the weights of another model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from autoseg.core.records import TransferSettings
from autoseg.networks import Part

FACTOR = "factor"  # key of an optimiser's group: its share of the learning rate

FROZEN: dict[str, tuple[Part, ...]] = {
    "full": (),
    "partial": ("encoder",),
    "head": ("encoder", "decoder"),
    "gradual": ("encoder",),
}


class Freezing:
    """The weights of a network that move, phase by phase.

    ``gradual`` has two phases, all other trainings one. A phase never goes back.

    Args:
        network: its parameters are told whether they move.
        settings: None lets every parameter move that the caller left so.
        parts: name of every parameter and buffer -> its part; only asked with settings.
    """

    def __init__(self, network: nn.Module, settings: TransferSettings | None, parts: Mapping[str, Part]) -> None:
        self.network, self.settings, self.parts = network, settings, parts
        self.frozen: tuple[Part, ...] = ()
        self.begin(0)

    def phase_at(self, share: float) -> int:
        """The phase at a share of the training."""
        gradual = self.settings is not None and self.settings.mode == "gradual"
        return int(gradual and share >= self.settings.unfreeze_share)  # type: ignore[union-attr]

    def begin(self, phase: int) -> None:
        """Let the weights of a phase move, and no others."""
        if self.settings is None:
            return
        self.frozen = FROZEN[self.settings.mode] if phase == 0 else ()
        for name, weight in self.network.named_parameters():
            weight.requires_grad_(self.parts[name] not in self.frozen)
        self.rest()

    def rest(self) -> None:
        """Put frozen norms into evaluation mode, in which their statistics stay, and the others back."""
        for prefix, module in self.network.named_modules():
            if self.settings is None or not isinstance(module, _NormBase):
                continue
            own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            if own:
                module.train(self.parts[f"{prefix}.{own[0][0]}"] not in self.frozen)

    def groups(self) -> list[dict[str, Any]]:
        """The parameters that move, as groups of an optimiser; the encoder's own group comes last."""
        moving = [(name, weight) for name, weight in self.network.named_parameters() if weight.requires_grad]
        if self.settings is None:
            return [{"params": [weight for _, weight in moving]}]
        encoder = [weight for name, weight in moving if self.parts[name] == "encoder"]
        others = [weight for name, weight in moving if self.parts[name] != "encoder"]
        factor = self.settings.encoder_learning_rate_factor
        return [{"params": others, FACTOR: 1.0}] + [{"params": encoder, FACTOR: factor}] * bool(encoder)

    def parameters(self) -> list[nn.Parameter]:
        """The parameters that move."""
        return [weight for weight in self.network.parameters() if weight.requires_grad]
