"""Synthetic brains, laid out on disk exactly as ISLES 2015 SISS is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from autoseg.core.errors import UsageError
from autoseg.core.images import write_voxels
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Grid
from autoseg.core.store import write_text
from autoseg.datasets.synthetic.brain import Brain, draw_brain, grid_spacing
from autoseg.datasets.synthetic.contrast import CONTRASTS, draw_channel, draw_findings
from autoseg.datasets.synthetic.lesions import Lesion, draw_lesions

KINDS = {"DWI": "MR_DWI", "FLAIR": "MR_Flair", "T1": "MR_T1", "T2": "MR_T2"}
README = """These brains are synthetic. No person was scanned.

autoseg drew {cases} cases of {shape} voxels with seed {seed}: skull-stripped heads with acute ischaemic lesions in DWI,
FLAIR, T1 and T2, laid out as the training set of ISLES 2015 SISS. Case {empty} has no lesion. Chronic white-matter
change (bright in FLAIR and T2, not in DWI) and false brightness of DWI near air are there to mislead; they are not
labelled. lesions.csv lists every lesion. Scores on these cases show that a pipeline works, not how well it would do on
patients.
"""


def make_isles15(
    folder: Path, *, cases: int, seed: int, shape: tuple[int, int, int] = (72, 96, 84), progress: Progress = no_progress
) -> None:
    """Draw synthetic cases into a new folder; the same seed draws the same voxels.

    The field of view is fixed, so the shape sets the spacing: 2 mm with the shape given by default.

    Args:
        folder: is made; gets ``SISS2015_Training/<number>/VSD.Brain.XX.O.*``, ``lesions.csv`` and ``README.txt``.
        cases: how many; from two on, exactly one has no lesion.
        seed: of the random streams, one per case.
        shape: voxels along (Z,Y,X).
        progress: called after each case.

    Raises:
        UsageError: the folder exists and is not empty, or the numbers make no dataset.
        StorageError: the disk refused a write.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; name a new folder")
    if cases < 1 or min(shape) < 12:
        raise UsageError(
            f"{cases} cases of {'x'.join(map(str, shape))} voxels are too few for a dataset; "
            f"use at least 1 case and 12 voxels per axis"
        )
    empty = cases // 2 + 1 if cases > 1 else None
    grid = Grid(shape=shape, spacing=grid_spacing(shape), origin=(-84.0, -96.0, -72.0))
    rows = ["case,lesion,volume_ml,centre_z,centre_y,centre_x"]
    for number in range(1, cases + 1):
        rng = np.random.default_rng([seed, number])
        brain = draw_brain(rng, shape)
        lesions = draw_lesions(rng, brain, number) if number != empty else ()
        _write_case(rng, folder / "SISS2015_Training" / str(number), number, grid, brain, lesions)
        for index, lesion in enumerate(lesions, start=1):
            centre = ",".join(f"{value:.1f}" for value in lesion.voxels.mean(0))
            rows.append(f"siss_{number:02d},{index},{len(lesion.voxels) * grid.voxel_volume_ml:.4f},{centre}")
        progress(number, cases, f"siss_{number:02d}")
    write_text(folder / "lesions.csv", "\n".join(rows) + "\n")
    sizes = "x".join(map(str, shape))
    write_text(folder / "README.txt", README.format(cases=cases, shape=sizes, seed=seed, empty=empty or "none"))


def _write_case(
    rng: np.random.Generator, folder: Path, number: int, grid: Grid, brain: Brain, lesions: tuple[Lesion, ...]
) -> None:
    """Write four channels and the label, each in a folder of its own name with an id of its own."""
    label = np.zeros(grid.shape, np.uint8)
    for lesion in lesions:
        label[tuple(lesion.voxels.T)] = 1
    findings = draw_findings(rng, brain, label > 0)
    volumes = {KINDS[name]: draw_channel(rng, brain, findings, contrast) for name, contrast in CONTRASTS.items()}
    for offset, (kind, voxels) in enumerate({**volumes, "OT": label}.items()):
        name = f"VSD.Brain.XX.O.{kind}.{70600 + 10 * number + offset}"
        write_voxels(folder / name / f"{name}.nii", voxels, grid)
