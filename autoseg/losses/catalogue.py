"""Every loss that a plan may name, as a weighted sum of terms; ``LOSSES`` lists them by name."""

from __future__ import annotations

from autoseg.losses.blob import add_lesions, blob_cross_entropy, blob_dice
from autoseg.losses.boundary import weight_edges
from autoseg.losses.cells import add_cells, cell_cross_entropy, cell_dice
from autoseg.losses.loss import Loss, Term
from autoseg.losses.overlap import dice, focal_tversky, generalized_dice, tversky
from autoseg.losses.voxelwise import cross_entropy, focal, top_k_cross_entropy

_DICE, _CE = Term(dice, "dice_weight"), Term(cross_entropy, "ce_weight")

# Soft Dice and (binary) cross-entropy. Source: nnU-Net, doi:10.1038/s41592-020-01008-z.
DICE_CE = Loss([_DICE, _CE], takes="labels")
DICE_BCE = Loss([_DICE, Term(cross_entropy, "bce_weight")], takes="regions", without=["background"])

# Soft Dice and the focal loss. Source: the sum as in AnatomyNet, arXiv:1808.05238.
DICE_FOCAL = Loss([_DICE, Term(focal, "focal_weight")], defaults={"alpha": 0.25})

# Single terms, each with its source beside it.
GENERALIZED_DICE = Loss([Term(generalized_dice)])
TVERSKY = Loss([Term(tversky)])
FOCAL_TVERSKY = Loss([Term(focal_tversky)])
FOCAL = Loss([Term(focal)])
TOP_K_CE = Loss([Term(top_k_cross_entropy)])

# Dice and cross-entropy with a weight per voxel that stresses the edges of the reference.
BOUNDARY_DICE_CE = Loss([_DICE, _CE], prepare=weight_edges)

# Dice and cross-entropy of the whole, plus the same as means over lesions, or over the cells around them. The weights
# 2 and 1 are usual for blob loss, arXiv:2205.08209.
BLOB_DICE_CE = Loss(
    [_DICE, _CE],
    by_lesion=[Term(blob_dice, "dice_weight"), Term(blob_cross_entropy, "ce_weight")],
    by_lesion_weight="blob_weight",
    prepare=add_lesions,
    without=["background", "class_weights"],
    defaults={"global_weight": 2.0},
)
CC_DICE_CE = Loss(
    [_DICE, _CE],
    by_lesion=[Term(cell_dice, "dice_weight"), Term(cell_cross_entropy, "ce_weight")],
    by_lesion_weight="cell_weight",
    prepare=add_cells,
    without=["background", "class_weights"],
)
