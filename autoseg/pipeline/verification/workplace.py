"""The folder, device and synthetic datasets that the parts of a verification share."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from autoseg.core.images import read_voxels, write_voxels
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Configuration, Fingerprint, Grid, Plan, PreparedCase
from autoseg.core.store import Store, growing_folder, hidden_beside, read_record, write_record
from autoseg.datasets import import_dataset, make_isles15
from autoseg.folds.inputs import read_cases
from autoseg.options import ImportOptions, PlanOptions
from autoseg.pipeline.plan import plan
from autoseg.preparation import open_raw, read_plan

SMALL, LARGE = "Small", "Large"
ADVICE = "remove the folder and run autoseg_verify again"
Shape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Sizes of a verification.

    Attributes:
        cases: of the small dataset, which is trained on.
        shape: voxels of its cases (z,y,x).
        brain: voxels (z,y,x) of a large scan that hold a brain; at 1 mm as many as the field of view has mm.
        scan: voxels of a large scan, the brain surrounded by air.
        scans: number of large scans to predict; copies of two.
        learning_s: seconds of the training that must learn.
        budgets_gb: memory budgets to plan every network for.
    """

    cases: int = 12
    shape: Shape = (36, 48, 42)
    brain: Shape = (144, 192, 168)
    scan: Shape = (155, 240, 240)
    scans: int = 20
    learning_s: float = 60.0
    budgets_gb: tuple[float, ...] = (4, 8, 16, 24, 40, 80)


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """Folder and device of a verification.

    Attributes:
        store: of its own datasets and models.
        device: to verify.
        scale: sizes of data and trainings.
        progress: of long work.
    """

    store: Store
    device: torch.device
    scale: Scale
    progress: Progress = no_progress

    @property
    def on_cpu(self) -> bool:
        """Whether the CPU is verified."""
        return self.device.type == "cpu"

    def wait(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def plan_small(self) -> Plan:
        """The plan of a dataset of small synthetic scans, made on the first call, with the planner's defaults."""
        return self._plan(SMALL, cases=self.scale.cases, shape=self.scale.shape, padded=self.scale.shape)

    def plan_large(self) -> Plan:
        """The plan of two large synthetic scans, made on the first call, with the planner's defaults."""
        return self._plan(LARGE, cases=2, shape=self.scale.brain, padded=self.scale.scan)

    def fingerprint(self) -> Fingerprint:
        """Measurements of the large scans."""
        self.plan_large()
        return read_record(Fingerprint, self.store.preprocessed(LARGE) / "fingerprint.json", advice=ADVICE)

    def read_prepared(self, plan: Plan, configuration_name: str) -> list[PreparedCase]:
        """All preprocessed cases of a planned dataset."""
        dataset = open_raw(self.store, plan.dataset)
        names = [case.id for case in dataset.cases]
        return list(read_cases(self.store, dataset, plan, configuration_name, names).values())

    def add_configurations(self, additions: Mapping[str, Configuration]) -> Plan:
        """The small dataset's plan with further configurations, written to disk as a user's edit would be."""
        current = self.plan_small()
        edited = current.model_copy(update={"configurations": {**current.configurations, **additions}})
        if edited != current:
            write_record(self.store.preprocessed(SMALL) / "plan.json", edited)
        return edited

    def scans_folder(self) -> Path:
        """A folder of large scans to predict, made on the first call: links to the channels of the large dataset."""
        folder = self.store.root / "scans"
        if not folder.exists():
            self.plan_large()
            dataset = open_raw(self.store, LARGE)
            with growing_folder(folder) as making:
                for number in range(self.scale.scans):
                    case = dataset.cases[number % len(dataset.cases)]
                    for channel, file in enumerate(case.channels):
                        _link(file.path, making / f"head{number + 1:02d}_{channel:04d}.nii.gz")
        return folder

    def _plan(self, name: str, *, cases: int, shape: Shape, padded: Shape) -> Plan:
        if not (self.store.preprocessed(name) / "plan.json").exists():
            self._make_data(name, cases=cases, shape=shape, padded=padded)
            planned_for = "cuda" if self.device.type == "cuda" else "cpu"  # so it is for any other GPU
            options = PlanOptions(dataset=name, device=planned_for, workers=1)
            plan(self.store, options, progress=self.progress)
        return read_plan(self.store, name)

    def _make_data(self, name: str, *, cases: int, shape: Shape, padded: Shape) -> None:
        target = self.store.raw(name)
        if target.exists():
            return
        source = hidden_beside(target)
        try:
            make_isles15(source, cases=cases, seed=1, shape=shape, progress=self.progress)
            if name == SMALL:
                _label_bright_tissue(source)
            if padded != shape:
                for path in sorted(source.rglob("*.nii")):
                    _pad(path, padded)
            options = ImportOptions(source=source, dataset=name, kind="isles15", copy=True)
            import_dataset(options, target, progress=self.progress)
        finally:
            shutil.rmtree(source, ignore_errors=True)


def _label_bright_tissue(source: Path) -> None:
    """Replace the lesions of all cases by the brightest fifth of smoothed T2, which a minute suffices to learn."""
    for label in sorted(source.rglob("*.OT.*.nii")):
        (channel,) = label.parent.parent.rglob("*.MR_T2.*.nii")
        voxels, grid = read_voxels(channel)
        smooth = gaussian_filter(voxels.astype(np.float32), 1.5)
        bright = (smooth > np.quantile(smooth[voxels > 0], 0.8)) & (voxels > 0)
        write_voxels(label, bright.astype(np.uint8), grid)


def _pad(path: Path, shape: Shape) -> None:
    """Surround the voxels of a file with air, in the middle of a larger grid of the same spacing."""
    voxels, grid = read_voxels(path)
    margins = [(larger - size) // 2 for size, larger in zip(voxels.shape, shape, strict=True)]
    padded = np.zeros(shape, voxels.dtype)
    padded[tuple(slice(margin, margin + size) for margin, size in zip(margins, voxels.shape, strict=True))] = voxels
    write_voxels(path, padded, Grid(shape=shape, spacing=grid.spacing, origin=grid.origin, direction=grid.direction))


def _link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the disk has none."""
    try:
        target.hardlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, target)
