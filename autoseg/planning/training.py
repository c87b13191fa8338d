"""Rules 11 and 19: loss, optimiser and length of training."""

from __future__ import annotations

from autoseg.core.errors import PlanError
from autoseg.core.records import Fingerprint, LossSettings, NetworkSettings, Outputs
from autoseg.planning.presets import Preset
from autoseg.planning.text import count


def plan_loss(
    fingerprint: Fingerprint, network: NetworkSettings, *, pooled: bool, because: str
) -> tuple[LossSettings, str]:
    """Dice with cross-entropy, at every head, and why.

    Args:
        pooled: 11a. Dice over the whole batch instead of per sample.
        because: clause on the content of a sample, for the reason.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z, online methods.
    """
    weights = weigh_heads(len(network.features) - 1) if network.deep_supervision else ()
    options = {"batch_dice": True} if pooled else {}
    regions = len(fingerprint.regions)
    classes = (
        f"{count(regions, 'region')} may overlap, so sigmoid and binary cross-entropy"
        if regions
        else "classes exclude each other, so softmax and cross-entropy"
    )
    dice = f"Dice {'over the whole batch' if pooled else 'per sample'}, because {because}"
    heads = f"; deep supervision weights {', '.join(f'{w:g}' for w in weights)}, finest first" if weights else ""
    reason = f"{dice}; {classes}{heads}."
    return LossSettings(
        name="dice_bce" if regions else "dice_ce", options=options, deep_supervision_weights=weights
    ), reason


def weigh_classes(fingerprint: Fingerprint) -> tuple[float, ...]:
    """11c. Class weights by frequency, for ``loss.options.class_weights``: one per output, with sum 1.

    Each class, background first, or each region is weighted by the inverse of its share of the voxels, so that every
    class has the same total weight in a weighted cross-entropy.

    Raises:
        PlanError: a label occurs nowhere, so that its weight would be infinite.

    Source: Eigen & Fergus 2015, arXiv:1411.4734, whose median frequency is a common factor that a weighted mean drops.
    """
    shares = {
        value: fingerprint.frequencies[name].voxel_share if name in fingerprint.frequencies else 0.0
        for name, value in fingerprint.labels.items()
        if value not in (0, fingerprint.ignore_label)
    }
    outputs = Outputs.of(fingerprint.labels, fingerprint.regions, fingerprint.ignore_label)
    if outputs.overlap:
        output_shares = [sum(shares[value] for value in values) for values in fingerprint.regions.values()]
    else:
        output_shares = [shares[value] if value else 1 - sum(shares.values()) for value in outputs.values]
    missing = [name for name, share in zip(outputs.names, output_shares, strict=True) if share <= 0]
    if missing:
        raise PlanError(
            f"label '{missing[0]}' has no voxel in any label file of {fingerprint.dataset}, so it has no weight by "
            f"frequency; set loss.options.class_weights by hand"
        )
    # weight of a class = 1 / share, divided by the sum of all
    inverse = [1 / share for share in output_shares]
    return tuple(float(f"{weight / sum(inverse):.4g}") for weight in inverse)


def weigh_loss(fingerprint: Fingerprint, loss: LossSettings) -> tuple[LossSettings, str]:
    """The planned loss with class weights by frequency, and why.

    Raises:
        PlanError: as ``weigh_classes``.
    """
    weights = weigh_classes(fingerprint)
    outputs = Outputs.of(fingerprint.labels, fingerprint.regions, fingerprint.ignore_label)
    named = ", ".join(f"{name} {weight:g}" for name, weight in zip(outputs.names, weights, strict=True))
    reason = f"Classes are weighted by the inverse of their share of the voxels (--class-weights frequency): {named}."
    return loss.model_copy(update={"options": {**loss.options, "class_weights": list(weights)}}), reason


def weigh_heads(heads: int) -> tuple[float, ...]:
    """11b. Weights 1, 1/2, 1/4, ... with the coarsest 0, with sum 1."""
    raw = [0.5**i for i in range(heads)]
    if heads > 1:
        raw[-1] = 0.0
    return tuple(round(weight / sum(raw), 4) for weight in raw)


def explain_training(preset: Preset) -> dict[str, str]:
    """19. Reasons of the preset's optimiser and length."""
    optimiser, training = preset.optimiser, preset.training
    steps = training.epochs * training.steps_per_epoch
    if optimiser.name == "sgd":
        reason = (
            f"SGD with learning rate {optimiser.learning_rate:g} and momentum {optimiser.momentum:g}, as in nnU-Net"
        )
    else:
        reason = (
            f"Muon, whose steps for convolution kernels are orthogonal, with learning rate {optimiser.learning_rate:g} "
            f"and AdamW for the other weights: in equal time it found fewer false lesions than AdamW alone"
        )
    length = f"{training.epochs} epochs of {training.steps_per_epoch} steps, {steps} in all"
    duration = "as in nnU-Net" if preset.for_gpu else f"about {steps / 3600:.1f} h on a laptop at one step per second"
    return {
        "optimiser": f"{reason}. The rate decays to 0 as (1 - progress)^{optimiser.exponent:g}.",
        "training": f"{length}: {duration}.",
    }
