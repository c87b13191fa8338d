"""Frozen parts and per-part learning rates for transfer learning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from autoseg.core.records import TransferSettings
from autoseg.networks import Part

FACTOR = "factor"  # key in an optimiser's parameter group: its multiple of the learning rate

FROZEN: dict[str, tuple[Part, ...]] = {
    "full": (),
    "partial": ("encoder",),
    "head": ("encoder", "decoder"),
    "gradual": ("encoder",),
}


class Freezing:
    """Frozen and trained parts of a network, phase by phase.

    ``gradual`` has two phases, all other modes one. A training never returns to an earlier phase.

    Args:
        network: ``requires_grad`` of its parameters is set.
        settings: None trains every parameter that requires a gradient already.
        parts: name of every parameter and buffer -> its part; required with settings.
    """

    def __init__(self, network: nn.Module, settings: TransferSettings | None, parts: Mapping[str, Part]) -> None:
        self.network, self.settings, self.parts = network, settings, parts
        self.frozen: tuple[Part, ...] = ()
        self.set_phase(0)

    def phase_at(self, progress: float) -> int:
        """The phase at a share of the training."""
        gradual = self.settings is not None and self.settings.mode == "gradual"
        return int(gradual and progress >= self.settings.unfreeze_share)  # type: ignore[union-attr]

    def set_phase(self, phase: int) -> None:
        """Train the parts of a phase and freeze all others."""
        if self.settings is None:
            return
        self.frozen = FROZEN[self.settings.mode] if phase == 0 else ()
        for name, weight in self.network.named_parameters():
            weight.requires_grad_(self.parts[name] not in self.frozen)
        self.freeze_norms()

    def freeze_norms(self) -> None:
        """Put frozen norms into evaluation mode, in which their statistics stay, and all others into training mode."""
        if self.settings is None:
            return
        still: tuple[Part, ...] = (*self.frozen, "encoder") if self.settings.freeze_statistics else self.frozen
        for prefix, module in self.network.named_modules():
            if not isinstance(module, _NormBase):
                continue
            tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            if tensors:
                module.train(self.parts[f"{prefix}.{tensors[0][0]}"] not in still)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The trained parameters as groups of an optimiser; the encoder's own group comes last."""
        trained = [(name, weight) for name, weight in self.network.named_parameters() if weight.requires_grad]
        if self.settings is None:
            return [{"params": [weight for _, weight in trained]}]
        encoder = [weight for name, weight in trained if self.parts[name] == "encoder"]
        others = [weight for name, weight in trained if self.parts[name] != "encoder"]
        factor = self.settings.encoder_learning_rate_factor
        return [{"params": others, FACTOR: 1.0}] + [{"params": encoder, FACTOR: factor}] * bool(encoder)

    def parameters(self) -> list[nn.Parameter]:
        """The trained parameters."""
        return [weight for weight in self.network.parameters() if weight.requires_grad]
