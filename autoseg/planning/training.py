"""Rules 9b and 11: loss, optimiser and length of training."""

from __future__ import annotations

from autoseg.core.errors import PlanError
from autoseg.core.records import Fingerprint, LossSettings, NetworkSettings, Outputs
from autoseg.planning.presets import Preset


def plan_loss(
    fingerprint: Fingerprint, network: NetworkSettings, *, pooled: bool, because: str
) -> tuple[LossSettings, str]:
    """Dice with cross-entropy, at every head, and why.

    Args:
        pooled: Dice over the whole batch instead of per sample.
        because: what a sample shows, that decided it.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z, online methods.
    """
    weights = weigh_heads(len(network.features) - 1) if network.deep_supervision else ()
    options = {"batch_dice": True} if pooled else {}
    regions = len(fingerprint.regions)
    classes = (
        f"{regions} regions overlap, so binary cross-entropy" if regions else "classes exclude each other, so softmax"
    )
    dice = f"Dice {'over the whole batch' if pooled else 'per sample'}, as {because}"
    why = f"{dice}; {classes}; heads weighted {', '.join(f'{w:g}' for w in weights)}, finest first."
    return LossSettings(
        name="dice_bce" if regions else "dice_ce", options=options, deep_supervision_weights=weights
    ), why


def weigh_classes(fingerprint: Fingerprint) -> tuple[float, ...]:
    """Class weights by frequency, for ``loss.options.class_weights``: one per output, adding up to 1.

    Each class, background first, or each region counts by the inverse of its share of the voxels, so that all classes
    together count alike in a weighted cross-entropy.

    Raises:
        PlanError: a label was measured nowhere, so that its weight would be infinite.

    Source: Eigen & Fergus 2015, arXiv:1411.4734, whose median frequency is a common factor that a weighted mean drops.
    """
    shares = {
        value: fingerprint.frequencies[name].voxel_share if name in fingerprint.frequencies else 0.0
        for name, value in fingerprint.labels.items()
        if value not in (0, fingerprint.ignore_label)
    }
    outputs = Outputs.of(fingerprint.labels, fingerprint.regions, fingerprint.ignore_label)
    if outputs.overlap:
        found = [sum(shares[value] for value in values) for values in fingerprint.regions.values()]
    else:
        found = [shares[value] if value else 1 - sum(shares.values()) for value in outputs.values]
    missing = [name for name, share in zip(outputs.names, found, strict=True) if share <= 0]
    if missing:
        raise PlanError(
            f"'{missing[0]}' has no voxel in any label file of {fingerprint.dataset}, so its frequency gives no class "
            f"weight; write loss.options.class_weights by hand"
        )
    # weight of a class = 1 / share, divided by the sum of all
    inverse = [1 / share for share in found]
    return tuple(float(f"{weight / sum(inverse):.4g}") for weight in inverse)


def weigh_loss(fingerprint: Fingerprint, loss: LossSettings) -> tuple[LossSettings, str]:
    """The planned loss with class weights by frequency, and why.

    Raises:
        PlanError: as ``weigh_classes``.
    """
    weights = weigh_classes(fingerprint)
    outputs = Outputs.of(fingerprint.labels, fingerprint.regions, fingerprint.ignore_label)
    named = ", ".join(f"{name} {weight:g}" for name, weight in zip(outputs.names, weights, strict=True))
    why = f"Classes weigh the inverse of their share of the voxels, as asked for by --class-weights: {named}."
    return loss.model_copy(update={"options": {**loss.options, "class_weights": list(weights)}}), why


def weigh_heads(heads: int) -> tuple[float, ...]:
    """Weights 1, 1/2, 1/4, ... with the coarsest 0, summing to 1 (rule 11)."""
    raw = [0.5**i for i in range(heads)]
    if heads > 1:
        raw[-1] = 0.0
    return tuple(round(weight / sum(raw), 4) for weight in raw)


def explain_training(preset: Preset) -> dict[str, str]:
    """Why the preset's optimiser and length are what they are."""
    optimiser, training = preset.optimiser, preset.training
    steps = training.epochs * training.steps_per_epoch
    if optimiser.name == "sgd":
        why = f"SGD at {optimiser.learning_rate:g} with momentum {optimiser.momentum:g}, as in nnU-Net"
    else:
        why = (
            f"AdamW at {optimiser.learning_rate:g} gets far within {steps} steps, where SGD with "
            f"momentum 0.99 needs ten times more"
        )
    length = f"{training.epochs} epochs of {training.steps_per_epoch} steps"
    budget = (
        f"{steps} steps as in nnU-Net"
        if preset.step_gflop is None
        else f"at about a second a step an evening ({steps / 3600:.1f} h) on a laptop"
    )
    return {
        "optimiser": f"{why}; the rate falls to 0 by a power of {optimiser.exponent:g}.",
        "training": f"{length}: {budget}.",
    }
