"""Tissue and lesions -> scanner units, one channel at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from autoseg.datasets.synthetic.brain import Brain, smooth_field


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Tissue contrast of a channel, as shares of its brightest tissue.

    Attributes:
        tissues: brightness of fluid, grey, white, deep grey.
        acute: range of what an acute lesion adds.
        chronic: what chronic change of white matter adds: bright in FLAIR and T2, unseen in DWI.
        artefact: what the air below the frontal lobe adds: bright in DWI alone.
        blur: voxels of smoothing, for a coarse acquisition.
        noise: deviation of the noise.
    """

    tissues: tuple[float, float, float, float]
    acute: tuple[float, float]
    chronic: float = 0.0
    artefact: float = 0.0
    blur: float = 0.35
    noise: float = 0.03


CONTRASTS = {
    "DWI": Contrast(tissues=(0.14, 0.50, 0.42, 0.46), acute=(0.38, 0.65), artefact=0.38, blur=0.65, noise=0.035),
    "FLAIR": Contrast(tissues=(0.14, 0.62, 0.50, 0.58), acute=(0.10, 0.32), chronic=0.34),
    "T1": Contrast(tissues=(0.20, 0.60, 0.88, 0.70), acute=(-0.20, -0.05), chronic=-0.14),
    "T2": Contrast(tissues=(0.98, 0.50, 0.36, 0.42), acute=(0.08, 0.28), chronic=0.25),
}


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Pathology of a case.

    Attributes:
        acute: (Z,Y,X) float32, 0 to 1, the lesions with their uneven strength.
        chronic: (Z,Y,X) float32, 0 to 1, old white-matter change, which is not labelled.
        artefact: (Z,Y,X) float32, 0 to 1, false brightness of DWI near air.
    """

    acute: np.ndarray
    chronic: np.ndarray
    artefact: np.ndarray


def draw_findings(rng: np.random.Generator, brain: Brain, lesions: np.ndarray) -> Findings:
    """Soften the lesions' edges and add what only looks like a lesion.

    Args:
        lesions: (Z,Y,X) bool.
    """
    shape = brain.mask.shape
    strength = 1 + 0.15 * smooth_field(rng, shape, 6)
    mask = lesions.astype(np.float32)
    acute = (0.7 * mask + 0.3 * gaussian_filter(mask, 0.7)) * strength
    patches = smooth_field(rng, shape, 4) + 1.6 * np.exp(-brain.ventricle_distance / 3.5) + rng.uniform(-0.3, 0.3)
    chronic = np.clip((patches - 1.9) * 1.2, 0, 1) * brain.tissues[2]
    low = np.clip((-18 - brain.height) / 6, 0, 1)
    artefact = low * np.clip(smooth_field(rng, shape, 7) - 1.1, 0, 1)
    return Findings(acute=acute, chronic=chronic.astype(np.float32), artefact=artefact.astype(np.float32))


def draw_channel(rng: np.random.Generator, brain: Brain, findings: Findings, contrast: Contrast) -> np.ndarray:
    """One channel, exactly 0 outside the brain and at least 1 inside.

    Source: Gudbjartsson and Patz 1995, doi:10.1002/mrm.1910340618, for the noise of a magnitude image.

    Returns:
        (Z,Y,X) int16, scanner units of a scale drawn for every channel and case.
    """
    shape = brain.mask.shape
    levels = np.array(contrast.tissues) * rng.normal(1, 0.03, 4)
    ideal = np.tensordot(levels, brain.tissues, axes=1) + 0.02 * smooth_field(rng, shape, 5) * brain.mask
    ideal += rng.uniform(*contrast.acute) * findings.acute
    ideal += contrast.chronic * findings.chronic + contrast.artefact * findings.artefact
    ideal = gaussian_filter(np.maximum(ideal, 0), contrast.blur)
    biased = ideal * np.exp(rng.uniform(0.05, 0.15) * smooth_field(rng, shape, 45))
    real, imaginary = rng.normal(0, contrast.noise, (2, *shape))
    magnitude = np.hypot(biased + real, imaginary)
    units = np.rint(magnitude * rng.uniform(250, 900))
    return np.where(brain.mask, np.clip(units, 1, 32767), 0).astype(np.int16)
