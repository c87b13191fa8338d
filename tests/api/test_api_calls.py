"""Python functions on a tiny dataset: records come back, a loaded model gives the masks that the command writes."""

import numpy as np
import pytest

import autoseg
from autoseg.core.images import read_voxels
from autoseg.core.records import Plan, Scores

GRID_SPACING = (2.0, 1.0, 1.0)


def read_scan(root, case):
    """(2,Z,Y,X) float32."""
    folder = root / "autoseg_raw" / "Tiny" / "imagesTr"
    return np.stack([read_voxels(folder / f"{case}_000{channel}.nii.gz")[0] for channel in (0, 1)])


def test_a_plan_comes_back_and_shows_its_configurations(planned):
    plan = autoseg.plan("Tiny", keep=True, workers=1, root=str(planned))
    assert isinstance(plan, Plan)
    page = plan._repr_html_()
    assert "<td>3d (recommended)</td><td>unet</td>" in page
    assert page.count("<tr>") == 1 + len(plan.configurations)


def test_a_training_reports_progress_and_gives_scores(planned):
    calls = []
    scores = autoseg.train(
        "Tiny",
        "3d",
        0,
        epochs=1,
        steps_per_epoch=1,
        device="cpu",
        root=planned,
        progress=lambda done, total, what: calls.append((done, total, what)),
    )
    assert isinstance(scores, Scores)
    assert any("predicting held-out cases" in what for _, _, what in calls)
    assert f"<caption>Scores of {len(scores.cases)} cases</caption>" in scores._repr_html_()


def test_a_training_may_be_stopped(planned):
    assert autoseg.train("Tiny", "3d", "0", device="cpu", root=planned, should_stop=lambda: True) is None
    assert not list((planned / "autoseg_results").rglob("model.safetensors"))


def test_a_loaded_model_gives_the_masks_that_the_command_writes(trained, tmp_path):
    masks = autoseg.predict(trained / "autoseg_raw/Tiny/imagesTr", tmp_path / "masks", root=trained, device="cpu")
    assert len(masks) == 6
    model = autoseg.load_model(str(trained / "autoseg_results" / "Tiny" / "3d"), device="cpu")
    for path in masks[:2]:
        mask = model.predict(read_scan(trained, path.name.removesuffix(".nii.gz")), spacing=GRID_SPACING)
        np.testing.assert_array_equal(mask, read_voxels(path)[0])


def test_a_loaded_model_gives_probabilities_of_its_mask(trained):
    model = autoseg.load_model(trained / "autoseg_results/Tiny/3d", device="cpu")
    mask, probabilities = model.predict_probabilities(read_scan(trained, "case0"), spacing=GRID_SPACING)
    assert probabilities.shape == (2, *mask.shape)
    differs = (mask > 0) != (probabilities[1] > probabilities[0])
    assert np.abs(probabilities[1] - probabilities[0])[differs].max(initial=0) < 1e-3  # ties, but for rounding
    assert mask.any()


@pytest.mark.parametrize(
    ("shape", "spacing", "sentence"),
    [
        ((3, 12, 20, 16), GRID_SPACING, r"takes numbers \(C,Z,Y,X\) with 2 channels \(FLAIR, T1\)"),
        ((12, 20, 16), GRID_SPACING, r"the array has the shape \(12, 20, 16\)"),
        ((2, 12, 20, 16), (1.0, 1.0), r"invalid spacing \(1.0, 1.0\)"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(trained, shape, spacing, sentence):
    model = autoseg.load_model(trained / "autoseg_results/Tiny/3d", device="cpu")
    with pytest.raises(autoseg.DataError, match=sentence):
        model.predict(np.random.default_rng(0).random(shape), spacing=spacing)


def test_an_error_is_one_of_the_exported(tmp_path):
    with pytest.raises(autoseg.UsageError):
        autoseg.plan("Nowhere", root=tmp_path)
    with pytest.raises(autoseg.AutosegError, match="invalid duration"):
        autoseg.train("Tiny", "3d", 0, time_budget="soon", root=tmp_path)
