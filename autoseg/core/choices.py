"""Names that options, records and tables share."""

from __future__ import annotations

from typing import Literal

SMALLEST_STEP = 0.05  # between tiles, as a share of a tile: 20 times as many tiles per axis as side by side

PresetName = Literal["pocket", "standard", "large", "residual_m", "residual_l", "residual_xl"]
Region = Literal["nonzero", "head"]  # of a scan: where any channel is not zero, or its head

# nnU-Net's name of a configuration -> ours, where they differ.
NNUNET_CONFIGURATIONS = {"3d_fullres": "3d", "3d_cascade_fullres": "3d_cascade"}
