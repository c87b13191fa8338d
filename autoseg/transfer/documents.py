"""nnU-Net's ``plans.json``: values that can be reproduced exactly, checked one by one.

Records that shape the result are closed: an unknown key or value is an error. Other keys are ignored.
Source: nnU-Net, doi:10.1038/s41592-020-01008-z, and the files that nnunetv2 2.0 to 2.8 write.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AliasChoices, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from autoseg.core.errors import ModelError
from autoseg.core.records import Record
from autoseg.core.records.base import FOREIGN_JSON_BYTES, JsonError, parse_json

_ARCHITECTURES = "dynamic_network_architectures.architectures"
NETWORKS = {
    f"{_ARCHITECTURES}.unet.PlainConvUNet": "unet",
    f"{_ARCHITECTURES}.unet.ResidualEncoderUNet": "residual_unet",
    f"{_ARCHITECTURES}.residual_unet.ResidualEncoderUNet": "residual_unet",
}

Blocks = Annotated[int, Field(ge=1, le=128)]
PerStage = tuple[PositiveInt, ...]
PerStageAndAxis = tuple[PositiveInt | PerStage, ...]


class Open(Record):
    """A record that ignores keys without meaning for a prediction."""

    model_config = ConfigDict(extra="ignore")


class NormArguments(Record):
    """Of instance normalisation."""

    eps: float = Field(default=1e-5, ge=1e-5, le=1e-5)
    affine: Literal[True]


class LeakyArguments(Record):
    """Of the leaky ReLU."""

    negative_slope: float = Field(default=0.01, ge=0.01, le=0.01)
    inplace: bool = False


class ArchitectureArguments(Record):
    """``arch_kwargs``: sizes that vary, and layers that may only be nnU-Net's own."""

    n_stages: Annotated[int, Field(ge=1, le=20)]
    features_per_stage: PositiveInt | PerStage
    conv_op: Literal[
        "torch.nn.modules.conv.Conv2d", "torch.nn.modules.conv.Conv3d", "torch.nn.Conv2d", "torch.nn.Conv3d"
    ]
    kernel_sizes: PositiveInt | PerStageAndAxis
    strides: PositiveInt | PerStageAndAxis
    n_conv_per_stage: Blocks | tuple[Blocks, ...] | None = None
    n_blocks_per_stage: Blocks | tuple[Blocks, ...] | None = None
    n_conv_per_stage_decoder: Blocks | tuple[Blocks, ...]
    conv_bias: Literal[True]
    norm_op: Literal[
        "torch.nn.modules.instancenorm.InstanceNorm2d",
        "torch.nn.modules.instancenorm.InstanceNorm3d",
        "torch.nn.InstanceNorm2d",
        "torch.nn.InstanceNorm3d",
    ]
    norm_op_kwargs: NormArguments
    dropout_op: None = None
    dropout_op_kwargs: dict[str, Any] | None = None
    nonlin: Literal["torch.nn.LeakyReLU", "torch.nn.modules.activation.LeakyReLU"]
    nonlin_kwargs: LeakyArguments | None = None
    deep_supervision: bool = False


class Architecture(Open):
    """Network, from a fixed table, and its arguments."""

    network_class_name: str
    arch_kwargs: ArchitectureArguments


class Resampling(Record):
    """Arguments of nnU-Net's default resampling; the coarse axis always takes its nearest slice."""

    is_seg: bool
    order: Literal[0, 1, 3]
    order_z: Literal[0] = 0
    force_separate_z: Literal[False] | None = False
    separate_z_anisotropy_threshold: PositiveFloat = 3.0


class ForeignConfiguration(Open):
    """One of nnU-Net's configurations, complete."""

    preprocessor_name: Literal["DefaultPreprocessor"]
    batch_size: PositiveInt
    patch_size: PerStage
    spacing: tuple[PositiveFloat, ...]
    normalization_schemes: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    resampling_fn_data: Literal["resample_data_or_seg_to_shape"]
    resampling_fn_data_kwargs: Resampling
    resampling_fn_seg: Literal["resample_data_or_seg_to_shape"]
    resampling_fn_seg_kwargs: Resampling
    resampling_fn_probabilities: Literal["resample_data_or_seg_to_shape"]
    resampling_fn_probabilities_kwargs: Resampling
    architecture: Architecture
    batch_dice: bool = False
    previous_stage: str | None = None


class Intensities(Open):
    """Foreground intensities of one channel over the whole dataset."""

    mean: float
    std: float
    percentile_00_5: float
    percentile_99_5: float


class ForeignPlans(Open):
    """``plans.json``; each configuration is checked when it is read."""

    plans_name: str = "nnUNetPlans"
    experiment_planner_used: str = ""
    image_reader_writer: Literal["SimpleITKIO", "NibabelIO"]
    label_manager: Literal["LabelManager"] = "LabelManager"
    transpose_forward: tuple[int, int, int]
    intensities: dict[str, Intensities] = Field(
        default_factory=dict,
        validation_alias=AliasChoices(
            "foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality"
        ),
    )
    configurations: dict[str, dict[str, Any]]


R = TypeVar("R", bound=Record)


def read_plans(content: bytes, where: str) -> ForeignPlans:
    """``plans.json`` from its bytes.

    Raises:
        ModelError: no JSON, or a value that we cannot reproduce.
    """
    return _parse(ForeignPlans, read_json(content, where), where)


def read_json(content: bytes, where: str) -> dict[str, Any]:
    """A JSON object from its bytes.

    Raises:
        ModelError: it is not a JSON object.
    """
    try:
        values = parse_json(content, max_bytes=FOREIGN_JSON_BYTES)
    except JsonError as error:
        raise ModelError(f"{where} is not JSON ({error}); copy the model again") from error
    if not isinstance(values, dict):
        raise ModelError(f"{where} must hold a JSON object, not a {type(values).__name__}; copy the model again")
    return values


def read_configuration(plans: ForeignPlans, name: str, where: str) -> ForeignConfiguration:
    """One configuration with inherited values, old keys renamed.

    Raises:
        ModelError: it is missing, inherits from itself, or cannot be reproduced.
    """
    values = _inherit(plans.configurations, name, where, ())
    if "architecture" not in values and "UNet_class_name" in values:
        values = {**values, "architecture": _translate_old_architecture(values, where)}
    return _parse(ForeignConfiguration, values, f"{where}, configuration {name},")


def _inherit(
    configurations: Mapping[str, dict[str, Any]], name: str, where: str, visited: tuple[str, ...]
) -> dict[str, Any]:
    if name in visited:
        raise ModelError(f"{where}: configuration {name} inherits from itself ({' -> '.join((*visited, name))})")
    if name not in configurations:
        raise ModelError(f"{where} has no configuration {name}, only {', '.join(configurations) or 'none'}")
    values = configurations[name]
    parent = values.get("inherits_from")
    return {**_inherit(configurations, str(parent), where, (*visited, name)), **values} if parent else values


def _translate_old_architecture(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The architecture of plans written before nnunetv2 2.3, which named sizes one by one and implied all layers."""
    kinds = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage"}
    kind = str(values["UNet_class_name"])
    if kind not in kinds:
        raise ModelError(f"{where} has the network {kind}, which autoseg does not support, only {', '.join(kinds)}")
    needed = ("UNet_base_num_features", "unet_max_num_features", "n_conv_per_stage_encoder", "n_conv_per_stage_decoder")
    missing = [key for key in (*needed, "conv_kernel_sizes", "pool_op_kernel_sizes") if key not in values]
    if missing:
        raise ModelError(f"{where} has a UNet_class_name but lacks {', '.join(missing)}; copy the model again")
    stages, axes = len(values["n_conv_per_stage_encoder"]), len(values["patch_size"])
    features = [min(values["UNet_base_num_features"] * 2**i, values["unet_max_num_features"]) for i in range(stages)]
    return {
        "network_class_name": f"{_ARCHITECTURES}.unet.{kind}",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": features,
            "conv_op": f"torch.nn.Conv{axes}d",
            "kernel_sizes": values["conv_kernel_sizes"],
            "strides": values["pool_op_kernel_sizes"],
            kinds[kind]: values["n_conv_per_stage_encoder"],
            "n_conv_per_stage_decoder": values["n_conv_per_stage_decoder"],
            "conv_bias": True,
            "norm_op": f"torch.nn.InstanceNorm{axes}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": "torch.nn.LeakyReLU",
        },
    }


def _parse(kind: type[R], values: Mapping[str, Any], where: str) -> R:
    try:
        return kind.model_validate_json(json.dumps(values))
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "missing":
            raise ModelError(f"{where} lacks '{key}'; it is not of nnU-Net v2, or was cut short") from error
        if problem["type"] == "extra_forbidden":
            raise ModelError(f"{where} has '{key}', which autoseg cannot reproduce") from error
        message = problem["msg"][:1].lower() + problem["msg"][1:]
        raise ModelError(
            f"{where} has '{key}' {str(problem['input'])[:60]!r}, which autoseg cannot reproduce ({message})"
        ) from error
