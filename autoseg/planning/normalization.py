"""Rule 3: intensity normalisation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from autoseg.core.choices import Region
from autoseg.core.records import ChannelNormalization, Fingerprint
from autoseg.fingerprint import median_crop_share

MASK_SHARE = 0.75
OUTSIDE_SHARE = 0.001  # of the labelled voxels of a case; more outside the head, and the head is not what we think
# Channel names (lower case) whose intensities mean the same in every scan; all others are scaled per image.
SCHEMES: dict[str, dict[str, tuple[str, ...]]] = {
    "nnunet": {"ct": ("ct",), "rgb": ("rgb_to_0_1",), "rescale": ("rescale_to_0_1",), "none": ("nonorm",)},
    "ours": {
        "ct": ("ct", "cta", "ncct", "cect"),
        "rgb": ("rgb", "rgb_to_0_1", "red", "green", "blue"),
        "rescale": ("rescale_to_0_1",),
        "none": ("nonorm",),
    },
}


def plan_region(fingerprint: Fingerprint) -> tuple[Region, str]:
    """3c. The region that scans are cropped to and measured in: the head, where the background is not zero; and why.

    The non-zero region is then the whole scan, and mean and standard deviation of its intensities are mostly those of
    air: tissue looks the brighter, the more air was scanned around it.
    """
    nonzero = median_crop_share(fingerprint)
    keeps = f"the non-zero region keeps {nonzero:.0%} of the median scan"
    if nonzero < MASK_SHARE:
        return "nonzero", f"The background is zero: {keeps}."
    heads = [case.head for case in fingerprint.cases if case.head is not None]
    if len(heads) < len(fingerprint.cases):
        return "nonzero", f"The background is not zero, as {keeps}, but the head was not measured in every case."
    share = float(np.median([head.share for head in heads]))
    if share >= MASK_SHARE:
        return "nonzero", f"There is little background: {keeps}, the head {share:.0%}."
    outside = [head.outside_share for head in heads]
    if max(outside) > OUTSIDE_SHARE:
        named = fingerprint.cases[int(np.argmax(outside))].case
        cut = f"{max(outside):.2%} of the labels of case {named} lie outside"
        return "nonzero", f"The background is not zero: {keeps}, and the head {share:.0%}, but {cut}."
    return "head", (
        f"The background is not zero: {keeps}, the head only {share:.0%}. So scans are cropped to the head, and "
        f"what is outside it becomes 0."
    )


def plan_normalization(
    fingerprint: Fingerprint, channel_names: str = "ours", region: Region = "nonzero"
) -> tuple[tuple[ChannelNormalization, ...], str]:
    """One normalisation per channel, and why.

    Args:
        fingerprint: with cases cropped to the region.
        region: by rule 3c.
        channel_names: the list of names whose channels have an absolute scale, ``ours`` or ``nnunet``.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z, supplementary note on intensity normalisation.
    """
    share = median_crop_share(fingerprint)
    # 3a. z-score inside the brain only where cropping removed much background, i.e. the skull is stripped.
    inside = share < MASK_SHARE or region == "head"
    schemes = SCHEMES[channel_names]
    channels = tuple(_choose(name, fingerprint, schemes, inside) for name in fingerprint.channels)
    listed = ", ".join(f"{n}: {c.scheme}" for n, c in zip(fingerprint.channels, channels, strict=True))
    sentences = [f"{listed}."]
    if any(channel.scheme == "zscore" for channel in channels):
        cropping = f"cropping to the non-zero region keeps {share:.0%} of the median scan"
        where = f"all its voxels: {cropping}, at least {MASK_SHARE:.0%}"
        if inside:
            where = f"its non-zero region only: {cropping}, and below {MASK_SHARE:.0%} the background would dominate"
        if region == "head":
            where = "its head only"
        sentences.append(
            f"MRI intensities have no absolute scale, so each image gets mean 0 and standard deviation 1, over {where}."
        )
    if any(channel.scheme == "ct" for channel in channels):
        sentences.append("CT has an absolute scale, so the foreground of the whole dataset gives the numbers.")
    return channels, " ".join(sentences)


def _choose(
    name: str, fingerprint: Fingerprint, schemes: Mapping[str, tuple[str, ...]], inside: bool
) -> ChannelNormalization:
    scheme = next((scheme for scheme, names in schemes.items() if name.casefold() in names), "zscore")
    if scheme == "zscore":
        return ChannelNormalization(inside_mask=inside)
    if scheme != "ct":
        return ChannelNormalization(scheme=scheme)  # type: ignore[arg-type]
    # 3b. CT has an absolute scale: the dataset's foreground decides once for all scans.
    facts = fingerprint.intensities[name]
    return ChannelNormalization(
        scheme="ct", mean=facts.mean, std=facts.std, lower=facts.percentile_00_5, upper=facts.percentile_99_5
    )
