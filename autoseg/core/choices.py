"""Names that options, records and tables share."""

from __future__ import annotations

from typing import Literal

PresetName = Literal["pocket", "standard", "large", "residual_m", "residual_l", "residual_xl"]
