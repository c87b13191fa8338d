"""What a report is made from, made up: three cases of one label, two folds, slices of 6 x 8 x 10 voxels."""

import numpy as np
import pytest
from browser import Browser, find_browser

from autoseg.core.records import (
    AugmentationSettings,
    Calibration,
    CalibrationBin,
    Candidate,
    CaseScores,
    ChannelNormalization,
    Configuration,
    Doubt,
    DoubtfulLesion,
    Experiment,
    LossSettings,
    NetworkSettings,
    OptimiserSettings,
    Plan,
    PostProcessing,
    PreprocessingSettings,
    SamplingSettings,
    TilingSettings,
    TrainedFold,
    TrainingSettings,
)
from autoseg.evaluation import summarize
from autoseg.reporting import Picture, ReportContent, ShownScores, Training, cut_stack

METRICS = ("dice", "hd95", "lesion_f1")
CASES = {"case1": (0.9, 2.0, 12.5), "case2": (0.25, None, 0.05), "case10": (0.5, 10.0, 3.0)}


def make_configuration():
    return Configuration(
        dimensions=3,
        preprocessing=PreprocessingSettings(spacing=(1, 1, 1), channels=(ChannelNormalization(),) * 2),
        patch_size=(8, 8, 8),
        batch_size=1,
        network=NetworkSettings(
            name="unet",
            features=(2, 2),
            kernels=((3, 3, 3), (3, 3, 3)),
            strides=((1, 1, 1), (2, 2, 2)),
            encoder_blocks=(1, 1),
            decoder_blocks=(1,),
            deep_supervision=False,
        ),
        loss=LossSettings(),
        optimiser=OptimiserSettings(),
        training=TrainingSettings(epochs=100, steps_per_epoch=10),
        sampling=SamplingSettings(foreground_share=0.3, lesion_share=0),
        augmentation=AugmentationSettings(
            rotation_probability=0, rotation_degrees=(-1, 1), scale_probability=0, mirror_axes=()
        ),
        tiling=TilingSettings(tile_size=(8, 8, 8)),
    )


def make_plan(dataset="Made"):
    return Plan(
        dataset=dataset,
        channels=("FLAIR", "T1"),
        labels={"background": 0, "lesion": 1},
        preset="pocket",
        memory_gb=4.0,
        recommended="3d",
        reasons={"recommended": "It is the only one.", "3d.patch_size": "It holds <all> of the head."},
        configurations={"3d": make_configuration()},
    )


def make_scores(names=tuple(CASES)):
    values = list(CASES.values())
    cases = [
        CaseScores(
            case=name,
            scores={"lesion": {"dice": dice, "hd95": hd95, "lesion_f1": dice}},
            reference_volume_ml={"lesion": volume},
            prediction_volume_ml={"lesion": volume * 0.8},
        )
        for name, (dice, hd95, volume) in zip(names, values, strict=True)
    ]
    return summarize(cases, METRICS)


def make_training(fold, scores=None, **changes):
    fields = {
        "fold": fold,
        "seed": 12345,
        "device": "cpu",
        "epochs": 3,
        "steps": 30,
        "elapsed_s": 90.0,
        "time_budget_s": None,
        "planned_epochs": 3,
        "steps_per_epoch": 10,
        "finished": True,
        "train": ("case2",),
        "validation": ("case1", "case10"),
        "versions": {"autoseg": "0.1.0", "torch": "2.13.0"},
    } | changes
    rows = tuple({"epoch": n, "train_loss": 1 / n, "validation_dice": 0.2 * n} for n in (1, 2, 3))
    return Training(configuration="3d", facts=TrainedFold(**fields), history=rows, scores=scores)


def make_stack():
    """Slices 0 to 5 with a head in all but the first; the lesion lies in slices 2 and 3, larger in 3."""
    image = np.zeros((2, 6, 8, 10), np.float32)
    image[:, 1:, 1:7, 1:9] = np.arange(5 * 6 * 8, dtype=np.float32).reshape(5, 6, 8) + 50
    reference, prediction = np.zeros((2, 6, 8, 10), np.uint8)
    reference[2, 3, 4] = reference[3, 3:5, 4:6] = 1
    prediction[3, 3:5, 5:7] = 1
    return cut_stack(image, reference, prediction, (3.0, 1.0, 2.0), limit=40)


def make_experiment():
    scores = make_scores()
    candidates = {
        "3d": Candidate(members=("3d",), target=0.55, lower=0.3, upper=0.8, summary=scores.summary),
        "2d+3d": Candidate(
            members=("2d", "3d"), target=0.5, lower=0.2, upper=0.7, difference=-0.05, p_value=0.0004, summary={}
        ),
    }
    bins = tuple(
        CalibrationBin(lower=low, upper=low + 0.5, voxels=10, confidence=low + 0.25, frequency=low + 0.1)
        for low in (0.0, 0.5)
    )
    lesion = DoubtfulLesion(centre=(-1.5, 2.25, 30.0), volume_ml=0.4, probability=0.55, agreement=0.5)
    return Experiment(
        dataset="Made",
        target_metric="dice",
        empty_score="one",
        folds=("0", "1"),
        candidates=candidates,
        winner="3d",
        reason="It has the highest mean.",
        postprocessing={"lesion": PostProcessing(threshold=0.4, smallest_lesion_ml=0.05)},
        target_before=0.55,
        target_after=0.57,
        calibration=Calibration(
            temperature=1.5, error_before=0.02, error_after=0.01, bins_before=bins, bins_after=bins
        ),
        doubts=(
            Doubt(
                case="case2",
                disagreement=0.4,
                uncertain_ml=1.25,
                uncertain_lesions=2,
                target=0.25,
                reason="The folds differ.",
                lesions=(lesion,),
            ),
        ),
        elapsed_s=7200.0,
        versions={"autoseg": "0.1.0"},
    )


def make_content(names=tuple(CASES), dataset="Made", **changes):
    """A report's content; ``names`` are those of the cases."""
    scores = make_scores(names)
    picture = Picture(role="Worst", scores=scores.cases[1], stack=make_stack(), channels=("FLAIR", "T1"))
    fields = {
        "made_at": "2026-01-01 12:00",
        "version": "0.1.0",
        "plan": make_plan(dataset),
        "trainings": (make_training("0", scores), make_training("1")),
        "summaries": {"3d": scores},
        "shown": ShownScores(name="3d", scores=scores, folds=dict.fromkeys(names, "0"), target="dice"),
        "pictures": (picture,),
        "notes": {},
    } | changes
    return ReportContent(**fields)


@pytest.fixture
def content():
    return make_content


@pytest.fixture
def training():
    return make_training


@pytest.fixture
def experiment():
    return make_experiment()


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless Chromium, or a skipped test."""
    if find_browser() is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium), so the page is not tried in a browser")
    tab = Browser(tmp_path_factory.mktemp("profile"))
    yield tab
    tab.close()
