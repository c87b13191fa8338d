"""An nnU-Net checkpoint -> its weights and the facts that its plans do not hold, without running code from it.

``torch.load(weights_only=True)`` rebuilds tensors, plain values and what is allowed by name; anything else in the file
is an error. nnU-Net's log of losses holds numpy scalars, so their constructor and their types are allowed: they take
bytes and make numbers.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from autoseg.core.errors import ModelError

_SCALAR = np.float32(0).__reduce__()[0]  # its module depends on numpy's version
# Both names of the function: of numpy 1 and 2, as the one that wrote the checkpoint.
ALLOWED: tuple[Any, ...] = (
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(name)) for name in ("float32", "float64")),
)

# Trainer classes of nnunetv2 2.8 that leave network and preprocessing as in the plans; nnUNetTrainerBN and the Primus
# trainers do not.
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


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Content of a checkpoint.

    Attributes:
        where: its path, for messages.
        weights: parameter name -> tensor.
        configuration: nnU-Net's name of it.
        trainer: class name of its trainer.
        mirror_axes: axes of the patch that it may be mirrored along at prediction.
    """

    where: str
    weights: Mapping[str, torch.Tensor]
    configuration: str
    trainer: str
    mirror_axes: tuple[int, ...]


def read_checkpoint(content: bytes, where: str) -> Checkpoint:
    """Open a checkpoint from its bytes.

    Raises:
        ModelError: damaged, not nnU-Net's, or with anything in it that could run code.
    """
    checkpoint = _load(content, where)
    weights = checkpoint.get("network_weights") if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in weights.values()):
        raise ModelError(f"{where} has no 'network_weights'; it is not a checkpoint of nnU-Net v2")
    init_args = checkpoint.get("init_args")
    configuration = init_args.get("configuration") if isinstance(init_args, dict) else None
    trainer = checkpoint.get("trainer_name")
    if not isinstance(configuration, str) or not isinstance(trainer, str):
        raise ModelError(f"{where} does not name its configuration and trainer; it is not a checkpoint of nnU-Net v2")
    axes = checkpoint.get("inference_allowed_mirroring_axes") or ()
    if not isinstance(axes, list | tuple) or not all(type(axis) is int for axis in axes):
        raise ModelError(f"{where} has inference_allowed_mirroring_axes {axes!r}, which are not axes")
    return Checkpoint(
        where=where, weights=weights, configuration=configuration, trainer=trainer, mirror_axes=tuple(sorted(axes))
    )


def check_trainer(checkpoint: Checkpoint, *, any_trainer: bool) -> None:
    """Refuse an unknown trainer, whose code may change the network, unless the user allows any.

    Raises:
        ModelError: it is unknown, and not any trainer is allowed.
    """
    if checkpoint.trainer in PLAIN_TRAINERS or any_trainer:
        return
    raise ModelError(
        f"{checkpoint.where} was trained with {checkpoint.trainer}, whose code may have changed network or "
        f"preprocessing; if it did not, import with --any-trainer"
    )


def _load(content: bytes, where: str) -> Any:
    _check_container(content, where)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(ALLOWED)):
            warnings.simplefilter("ignore")  # of numpy, about its own previous name
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        match = re.search(r"(?:GLOBAL|class|function) `?([\w.]+)`?", str(error))
        what = f" ({match[1]})" if match else ""
        raise ModelError(
            f"{where} holds more than weights and numbers{what}, which could run code; it is not opened"
        ) from error
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError, EOFError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{where} is damaged ({first}); copy or download it again") from error


def _check_container(content: bytes, where: str) -> None:
    """Refuse anything but a zip of uncompressed entries, which cannot grow when opened."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as container:
            entries = container.infolist()
    except zipfile.BadZipFile as error:
        raise ModelError(f"{where} is not a torch checkpoint, or is truncated; copy it again") from error
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > len(content):
        raise ModelError(f"{where} grows when opened, as no file of torch does; it is not opened")
