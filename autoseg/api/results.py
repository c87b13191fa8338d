"""Predictions, scores, comparisons, the report, and the verification of a machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from autoseg.api.building import Root, build, documented, open_store, shown
from autoseg.options import CompareOptions, EvaluateOptions, PredictOptions, ReportOptions, VerifyOptions

if TYPE_CHECKING:
    from autoseg.core.parallel import Progress
    from autoseg.core.records import Info, Scores, ScoresComparison, Verification
    from autoseg.prediction.loaded import LoadedModel


@documented(PredictOptions)
def predict(
    scans: str | Path,
    output: str | Path,
    *,
    dataset: str | None = None,
    configuration: str | None = None,
    folds: Sequence[str | int] | None = None,
    channel: Sequence[str] = (),
    dicom_seg: bool = False,
    dicom_patient: bool = False,
    resample_channels: bool = False,
    orientation: Literal["sform", "qform"] | None = None,
    accept_spacing: bool = False,
    replace: bool = False,
    probabilities: bool = False,
    report: bool = False,
    doubt: bool = False,
    postprocessing: bool = True,
    step: float | None = None,
    mirror: bool | None = None,
    engine: Literal["auto", "torch", "openvino"] = "auto",
    part: tuple[int, int] = (1, 1),
    device: str = "auto",
    root: Root = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Predict masks of new scans, each on its scan's own grid, and return their paths; the same call resumes."""
    options = build(PredictOptions, locals())
    from autoseg.pipeline.predict import predict as command

    return command(open_store(root), options, progress=shown(progress))


def load_model(
    folder: str | Path,
    *,
    folds: Sequence[str | int] | None = None,
    step: float | None = None,
    mirror: bool | None = None,
    postprocessing: bool = True,
    device: str = "auto",
) -> LoadedModel:
    """Load a trained model, or the best of an experiment, to predict arrays in memory.

    Args:
        folder: ``autoseg_results/<dataset>/<configuration>`` or ``autoseg_results/<dataset>/best``.
        folds: whose networks are averaged (default: all trained folds).
        step: distance between tiles, as a share of a tile (default: as planned).
        mirror: average over mirror images (default: as planned on a GPU, no on a CPU).
        postprocessing: apply the post-processing that improved held-out cases.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        ModelError: the folder holds no finished model.
    """
    from autoseg.prediction.loaded import open_model

    names = None if folds is None else tuple(map(str, folds))
    return open_model(Path(folder), names, device, step=step, mirror=mirror, postprocessing=postprocessing)


@documented(EvaluateOptions)
def evaluate(
    predictions: str | Path,
    references: str | Path | None = None,
    *,
    dataset: str | None = None,
    output: str | Path | None = None,
    fold: str | int | None = None,
    cases: Sequence[str] | None = None,
    preset: str | None = None,
    metrics: Sequence[str] | None = None,
    allow_missing: bool = False,
    workers: int | None = None,
    root: Root = None,
    progress: Progress | None = None,
) -> Scores:
    """Score masks against labels, and write and return the scores; the same call resumes."""
    options = build(EvaluateOptions, locals())
    from autoseg.pipeline.evaluate import evaluate as command

    return command(open_store(root), options, progress=shown(progress))


@documented(CompareOptions)
def compare(
    folders: Sequence[str | Path],
    *,
    references: str | Path | None = None,
    dataset: str | None = None,
    output: str | Path | None = None,
    common_cases: bool = False,
    preset: str | None = None,
    metrics: Sequence[str] | None = None,
    allow_missing: bool = False,
    workers: int | None = None,
    root: Root = None,
    progress: Progress | None = None,
) -> ScoresComparison:
    """Compare folders of scores, or of masks, case by case; with three or more, also rank them."""
    options = build(CompareOptions, locals())
    from autoseg.pipeline.compare import compare as command

    return command(open_store(root), options, progress=shown(progress))


def info(*, root: Root = None) -> Info:
    """The machine, the versions, and every model below the root.

    Args:
        root: folder with autoseg_raw, autoseg_preprocessed and autoseg_results (default: $AUTOSEG_ROOT, else the
            current folder).
    """
    from autoseg.pipeline.info import collect_info

    return collect_info(open_store(root))


@documented(ReportOptions)
def report(
    dataset: str,
    *,
    output: str | Path | None = None,
    configuration: str | None = None,
    pictures: bool = True,
    root: Root = None,
    progress: Progress | None = None,
) -> Path:
    """Write one HTML file of what was planned, trained and scored, and return its path."""
    options = build(ReportOptions, locals())
    from autoseg.pipeline.report import report as command

    return command(open_store(root), options, progress=shown(progress))


@documented(VerifyOptions)
def verify(
    *,
    minutes: float = 10.0,
    restart: bool = False,
    device: str = "auto",
    root: Root = None,
    progress: Progress | None = None,
) -> Verification:
    """Verify on synthetic data that this machine trains and predicts as it should; the same call continues."""
    options = build(VerifyOptions, locals())
    from autoseg.pipeline.verify import verify as command

    return command(open_store(root), options, progress=shown(progress))
