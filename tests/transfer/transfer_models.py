"""A model folder as nnU-Net v2 writes it, around nnU-Net's own network class, without nnU-Net."""

import json
from collections import OrderedDict

import numpy as np
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet

DEFAULT = "resample_data_or_seg_to_shape"
ARCHITECTURES = "dynamic_network_architectures.architectures"


def make_plans(axes=3, residual=False):
    """What nnU-Net writes for a tiny network of two stages and two channels, coarse axis last in the file."""
    blocks = {"n_blocks_per_stage": [1, 2]} if residual else {"n_conv_per_stage": [2, 2]}
    name = "2d" if axes == 2 else "3d_fullres"
    configuration = {
        "data_identifier": f"nnUNetPlans_{name}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [4, 16, 12][3 - axes :],
        "median_image_size_in_voxels": [6.0, 20.0, 16.0][3 - axes :],
        "spacing": [4.0, 1.0, 1.2][3 - axes :],
        "normalization_schemes": ["ZScoreNormalization", "CTNormalization"],
        "use_mask_for_norm": [True, False],
        "resampling_fn_data": DEFAULT,
        "resampling_fn_seg": DEFAULT,
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities": DEFAULT,
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
        "architecture": {
            "network_class_name": f"{ARCHITECTURES}.unet.{'ResidualEncoderUNet' if residual else 'PlainConvUNet'}",
            "arch_kwargs": {
                "n_stages": 2,
                "features_per_stage": [4, 8],
                "conv_op": f"torch.nn.modules.conv.Conv{axes}d",
                "kernel_sizes": [[1, 3, 3][3 - axes :], [3, 3, 3][3 - axes :]],
                "strides": [[1, 1, 1][3 - axes :], [1, 2, 2][3 - axes :]],
                **blocks,
                "n_conv_per_stage_decoder": [1],
                "conv_bias": True,
                "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{axes}d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": axes == 2,
    }
    facts = {"max": 900.0, "mean": 40.0, "median": 41.0, "min": -5.0, "std": 20.0}
    return {
        "dataset_name": "Dataset042_Lesions",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [4.0, 1.0, 1.2],
        "original_median_shape_after_transp": [6, 20, 16],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [2, 0, 1],
        "transpose_backward": [1, 2, 0],
        "configurations": {name: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(channel): {**facts, "percentile_00_5": 2.0, "percentile_99_5": 90.0} for channel in range(2)
        },
    }


def make_network(plans, outputs=3, seed=0, inputs=2):
    """nnU-Net's own network of the only configuration, in evaluation mode."""
    (configuration,) = plans["configurations"].values()
    kwargs = dict(configuration["architecture"]["arch_kwargs"])
    axes = len(configuration["patch_size"])
    kwargs |= {
        "conv_op": getattr(torch.nn, f"Conv{axes}d"),
        "norm_op": getattr(torch.nn, f"InstanceNorm{axes}d"),
        "nonlin": torch.nn.LeakyReLU,
    }
    kind = ResidualEncoderUNet if "n_blocks_per_stage" in kwargs else PlainConvUNet
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind(input_channels=inputs, num_classes=outputs, deep_supervision=False, **kwargs).eval()


def make_checkpoint(plans, network, **changes):
    """What nnU-Net saves, numpy scalars in its log included."""
    name = next(iter(plans["configurations"]))
    axes = len(plans["configurations"][name]["patch_size"])
    return {
        "network_weights": OrderedDict(network.state_dict()),
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01, "momentum": 0.99}]},
        "grad_scaler_state": None,
        "logging": {"train_losses": [np.float64(0.5), np.float32(0.4)], "lrs": [0.01]},
        "_best_ema": np.float32(0.7),
        "current_epoch": 2,
        "init_args": {"plans": plans, "configuration": name, "fold": 0, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": tuple(range(axes)),
        **changes,
    }


DESCRIBED = {
    "channel_names": {"0": "FLAIR", "1": "CT"},
    "labels": {"background": 0, "lesion": 1, "core": 2},
    "numTraining": 10,
    "file_ending": ".nii.gz",
}


def write_model(folder, plans=None, *, folds=(0,), described=DESCRIBED, inputs=2, **changes):
    """The folder of one model under ``folder``, named as nnU-Net names it."""
    plans = make_plans() if plans is None else plans
    name = next(iter(plans["configurations"]))
    home = folder / "Dataset042_Lesions" / f"nnUNetTrainer__nnUNetPlans__{name}"
    home.mkdir(parents=True, exist_ok=True)
    (home / "plans.json").write_text(json.dumps(plans))
    (home / "dataset.json").write_text(json.dumps(described))
    for seed, fold in enumerate(folds):
        (home / f"fold_{fold}").mkdir(exist_ok=True)
        checkpoint = make_checkpoint(plans, make_network(plans, seed=seed, inputs=inputs), **changes)
        torch.save(checkpoint, home / f"fold_{fold}" / "checkpoint_final.pth")
    return home
