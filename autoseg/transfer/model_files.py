"""Files of nnU-Net models in a folder or a zip, and their checkpoints; nothing is unpacked, no code in them is run.

``torch.load(weights_only=True)`` rebuilds tensors, plain values and what is allowed by name; anything else in a file is
an error. nnU-Net's log of losses holds numpy scalars, so their constructor and their types are allowed: they take bytes
and make numbers.
"""

from __future__ import annotations

import io
import pickle
import re
import stat
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from autoseg.core.errors import ModelError, UsageError

DEPTH = 3  # <dataset>/<trainer>__<plans>__<configuration>/plans.json
FOLD_FILE = re.compile(r"fold_(all|\d+)/checkpoint_(final|best)\.pth")

MOST_ENTRIES = 200_000
MOST_TEXT_BYTES = 2**23
MOST_WEIGHT_BYTES = 2**34
MOST_SHRUNK = 100  # weights hardly compress; a hundredth of their size is an attack

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
class ModelFiles:
    """Files of models in a folder or a zip.

    Attributes:
        name: path of the folder or zip, for messages.
        sizes: bytes of each file that can belong to a model, by its path inside.
        read: path inside -> its bytes.
    """

    name: str
    sizes: Mapping[PurePosixPath, int]
    read: Callable[[PurePosixPath], bytes]


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


@contextmanager
def open_model_files(path: Path) -> Iterator[ModelFiles]:
    """List the model files of a folder or a zip.

    Raises:
        UsageError: neither.
        ModelError: a zip that is damaged, encrypted, or malicious.
    """
    if path.is_dir():
        yield _open_folder(path)
    elif path.is_file() and zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                yield _open_zip(path, archive)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ModelError(f"{path} is damaged ({error}); copy or download it again") from error
    else:
        what = "is neither a folder nor a zip file" if path.exists() else "does not exist"
        raise UsageError(f"{path} {what}; give the folder or the exported zip of an nnU-Net model")


def _open_folder(folder: Path) -> ModelFiles:
    sizes = {}
    for depth in range(DEPTH):
        for pattern in ("plans.json", "dataset.json", "fold_*/checkpoint_*.pth"):
            for file in folder.glob("*/" * depth + pattern):
                inside = PurePosixPath(file.relative_to(folder).as_posix())
                if _is_model_file(inside) and file.is_file():
                    sizes[inside] = file.stat().st_size
    for inside, size in sizes.items():
        _check_size(folder / inside, inside, size)
    return ModelFiles(name=str(folder), sizes=sizes, read=lambda inside: (folder / inside).read_bytes())


def _open_zip(path: Path, archive: zipfile.ZipFile) -> ModelFiles:
    entries = archive.infolist()
    if len(entries) > MOST_ENTRIES:
        raise ModelError(f"{path} holds {len(entries)} files, too many for an exported model; it is not opened")
    members: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for entry in entries:
        _check_entry(path, entry)
        inside = PurePosixPath(entry.filename)
        if entry.is_dir() or not _is_model_file(inside):
            continue
        if inside in members:
            raise ModelError(f"{path} holds {inside} twice; export the model again")
        _check_size(path / inside, inside, entry.file_size, packed=entry.compress_size)
        members[inside] = entry
    sizes = {inside: entry.file_size for inside, entry in members.items()}
    return ModelFiles(name=str(path), sizes=sizes, read=lambda inside: archive.read(members[inside]))


def _is_model_file(inside: PurePosixPath) -> bool:
    """Whether a file belongs to a model at most ``DEPTH`` folders down."""
    parts = inside.parts
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return False
    if parts[-1] in ("plans.json", "dataset.json"):
        return len(parts) <= DEPTH
    return len(parts) <= DEPTH + 1 and FOLD_FILE.fullmatch("/".join(parts[-2:])) is not None


def _check_entry(path: Path, entry: zipfile.ZipInfo) -> None:
    """Refuse an entry with a path outside the zip, a link, or an encrypted one."""
    name = entry.filename
    if name.startswith("/") or "\\" in name or re.match(r"[A-Za-z]:", name) or ".." in PurePosixPath(name).parts:
        raise ModelError(f"{path} holds the path '{name}', which leads outside; it is not opened")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise ModelError(f"{path} holds the link '{name}'; it is not opened")
    if entry.flag_bits & 1:
        raise ModelError(f"{path} is encrypted; unpack it with its password and give the folder instead")


def _check_size(shown: Path, inside: PurePosixPath, size: int, *, packed: int | None = None) -> None:
    text = inside.suffix == ".json"
    most = MOST_TEXT_BYTES if text else MOST_WEIGHT_BYTES
    if size > most:
        raise ModelError(f"{shown} has {size / 2**20:.0f} MB, more than {most / 2**20:.0f} MB; it is not opened")
    if packed is not None and not text and size > MOST_SHRUNK * max(packed, 1):
        raise ModelError(
            f"{shown} grows from {packed} to {size} bytes when unpacked, as weights never do; it is not opened"
        )


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
