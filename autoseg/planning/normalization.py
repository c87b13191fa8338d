"""Rule 3: intensity normalisation."""

from __future__ import annotations

from collections.abc import Mapping

from autoseg.core.records import ChannelNormalization, Fingerprint
from autoseg.fingerprint import median_crop_share

MASK_SHARE = 0.75
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


def plan_normalization(
    fingerprint: Fingerprint, channel_names: str = "ours"
) -> tuple[tuple[ChannelNormalization, ...], str]:
    """One normalisation per channel, and why.

    Args:
        channel_names: the list of names whose channels have an absolute scale, ``ours`` or ``nnunet``.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z, supplementary note on intensity normalisation.
    """
    share = median_crop_share(fingerprint)
    # 3a. z-score inside the brain only where cropping removed much background, i.e. the skull is stripped.
    inside = share < MASK_SHARE
    schemes = SCHEMES[channel_names]
    channels = tuple(_choose(name, fingerprint, schemes, inside) for name in fingerprint.channels)
    listed = ", ".join(f"{n}: {c.scheme}" for n, c in zip(fingerprint.channels, channels, strict=True))
    sentences = [f"{listed}."]
    if any(channel.scheme == "zscore" for channel in channels):
        cropping = f"cropping to the non-zero region keeps {share:.0%} of the median scan"
        sentences.append(
            f"MRI intensities have no absolute scale, so each image gets mean 0 and standard deviation 1, over its "
            f"non-zero region only: {cropping}, and below {MASK_SHARE:.0%} the background would dominate the mean."
            if inside
            else f"MRI intensities have no absolute scale, so each image gets mean 0 and standard deviation 1, over "
            f"all its voxels: {cropping}, at least {MASK_SHARE:.0%}."
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
