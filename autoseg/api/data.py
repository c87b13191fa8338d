"""Datasets, plans and models of others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from autoseg.api.building import Root, build, documented, open_store, shown
from autoseg.core.choices import PresetName
from autoseg.options import CheckOptions, ImportModelOptions, ImportOptions, PlanOptions, SliceOptions, SubsetOptions
from autoseg.options.planning import Mode

if TYPE_CHECKING:
    from autoseg.core.parallel import Progress
    from autoseg.core.records import Check, Dataset, Plan, Subsets


@documented(ImportOptions)
def import_dataset(
    source: str | Path,
    dataset: str,
    *,
    kind: str | None = None,
    channel: Sequence[str] = (),
    copy: bool = False,
    resample_channels: bool = False,
    skip_bad: bool = False,
    accept_spacing: bool = False,
    root: Root = None,
    progress: Progress | None = None,
) -> Dataset:
    """Check a dataset as it was distributed and lay it under ``autoseg_raw``; the source is never changed."""
    options = build(ImportOptions, locals())
    from autoseg.pipeline.import_dataset import import_raw

    return import_raw(open_store(root), options, progress=shown(progress))


@documented(ImportModelOptions)
def import_model(
    source: str | Path,
    dataset: str,
    *,
    configurations: Sequence[str] = (),
    replace: bool = False,
    any_trainer: bool = False,
    root: Root = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Import a model that nnU-Net v2 trained, and return its folders under ``autoseg_results``."""
    options = build(ImportModelOptions, locals())
    from autoseg.pipeline.import_model import import_model as command

    return command(open_store(root), options, progress=shown(progress))


@documented(CheckOptions)
def check(
    dataset: str,
    *,
    output: str | Path | None = None,
    fix: str | None = None,
    pictures: bool = True,
    workers: int | None = None,
    root: Root = None,
    progress: Progress | None = None,
) -> Check:
    """Write a page that shows every case, and return what looks wrong, ranked."""
    options = build(CheckOptions, locals())
    from autoseg.pipeline.check import check as command

    return command(open_store(root), options, progress=shown(progress))


@documented(SliceOptions)
def slice_dataset(
    dataset: str,
    into: str,
    *,
    lesion: bool = False,
    margin: tuple[int, int] = (0, 0),
    keep_patients: bool = False,
    workers: int | None = None,
    root: Root = None,
    progress: Progress | None = None,
) -> int:
    """Make a dataset whose cases are the slices of another's, and return their number."""
    options = build(SliceOptions, locals())
    from autoseg.pipeline.slice_dataset import slice_raw

    return slice_raw(open_store(root), options, progress=shown(progress))


@documented(PlanOptions)
def plan(
    dataset: str,
    *,
    memory_gb: float | None = None,
    preset: PresetName | None = None,
    time_budget: str | float | None = None,
    compat: Literal["nnunet", "none"] | None = None,
    networks: Sequence[str] = (),
    recipes: Sequence[str] = (),
    class_weights: Literal["frequency", "none"] | None = None,
    probe: bool | None = None,
    device: str = "auto",
    pretrained: str | Path | None = None,
    mode: Mode | None = None,
    least_share: float | None = None,
    with_scratch_twin: bool = False,
    folds: str | Path | None = None,
    fold_count: int | None = None,
    leave_one_site_out: bool = False,
    keep: bool = False,
    replace: bool = False,
    dry_run: bool = False,
    skip_bad: bool = False,
    accept_spacing: bool = False,
    workers: int | None = None,
    root: Root = None,
    progress: Progress | None = None,
) -> Plan:
    """Measure a dataset, plan configurations with reasons, split it into folds and preprocess it."""
    options = build(PlanOptions, locals())
    from autoseg.pipeline.plan import plan as command

    return command(open_store(root), options, progress=shown(progress)).plan


@documented(SubsetOptions)
def subset(dataset: str, sizes: Sequence[int], *, seed: int | None = None, root: Root = None) -> Subsets:
    """Choose smaller training sets of every fold, balanced by lesion volume, each within the next larger one."""
    options, store = build(SubsetOptions, locals()), open_store(root)
    from autoseg.core.records import Subsets
    from autoseg.core.store import read_record
    from autoseg.preparation.subsets import FILE, make_subset_file

    make_subset_file(store, options.dataset, options.sizes, seed=options.seed)
    return read_record(Subsets, store.preprocessed(options.dataset) / FILE, advice="run the same call again")
