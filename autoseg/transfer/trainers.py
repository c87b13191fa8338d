"""Trainer classes of nnU-Net: a checkpoint names one, and its code, which no file holds, may change the network."""

from __future__ import annotations

from autoseg.core.errors import ModelError
from autoseg.transfer.checkpoint import Checkpoint

# Those of nnunetv2 2.8 that leave network and preprocessing as the plans say; left out are nnUNetTrainerBN and the
# Primus trainers, which do not.
_VARIANTS = (
    "", "Adam", "Adam1en3", "Adam3en4", "Adan", "Adan1en1", "Adan1en3", "Adan3en4", "AdanCosAnneal",
    "Benchmark_5epochs", "Benchmark_5epochs_noDataLoading", "CELoss", "CELoss_5epochs", "CosAnneal", "DA5",
    "DA5Segord0", "DA5_10epochs", "DA5ord0", "DiceCELoss_noSmooth", "DiceLoss", "DiceTopK10Loss", "NoDA",
    "NoDeepSupervision", "NoMirroring", "Topk10Loss", "Topk10LossLS01", "VanillaAdam", "VanillaAdam1en3",
    "VanillaAdam3en4", "_100epochs", "_10epochs", "_1epoch", "_2000epochs", "_2000epochs_NoMirroring", "_20epochs",
    "_250epochs", "_250epochs_NoMirroring", "_4000epochs", "_4000epochs_NoMirroring", "_500epochs", "_50epochs",
    "_5epochs", "_750epochs", "_8000epochs", "_8000epochs_NoMirroring", "_DASegOrd0", "_DASegOrd0_NoMirroring",
    "_noDummy2DDA", "_onlyMirror01", "_onlyMirror01_1500ep", "_onlyMirror01_DA5", "_onlyMirror01_DASegOrd0",
    "_probabilisticOversampling", "_probabilisticOversampling_010", "_probabilisticOversampling_033", "_warmup",
)  # fmt: skip
PLAIN_TRAINERS = frozenset(f"nnUNetTrainer{variant}" for variant in _VARIANTS)


def check_trainer(checkpoint: Checkpoint, *, any_trainer: bool) -> None:
    """Refuse a trainer whose code nobody here knows, unless the user answers for it.

    Raises:
        ModelError: it is not known, and nobody answers for it.
    """
    if checkpoint.trainer in PLAIN_TRAINERS or any_trainer:
        return
    raise ModelError(
        f"{checkpoint.where} was trained with {checkpoint.trainer}, whose code may have changed network or "
        f"preprocessing beyond what the files say; if you know that it did not, import with --any-trainer"
    )
