"""autoseg_run on the tiny dataset: the whole way, again, stopped and failed; and its best model in autoseg_predict."""

import json
import os
import shutil
import subprocess
from contextlib import nullcontext

import numpy as np
import pytest

from autoseg.cli import run as run_command
from autoseg.core.errors import StorageError, TrainingError
from autoseg.core.images import read_voxels
from autoseg.core.parallel import run_cases
from autoseg.core.records import BestModel, Experiment, Outputs, PostProcessing
from autoseg.core.store import Store, hidden_beside, read_record, write_record
from autoseg.evaluation.calibration import temper
from autoseg.evaluation.postprocessing import finish_mask
from autoseg.experiment import finish
from autoseg.experiment.executor import Executor
from autoseg.experiment.finish import write_best
from autoseg.experiment.records import ExperimentPaths, TrainingResult
from autoseg.options import RunOptions
from autoseg.pipeline import run as command_module
from autoseg.pipeline.run import run as run_experiment

SHORT = ("--epochs", "1", "--steps-per-epoch", "2")
OPTIONS = RunOptions(dataset="Tiny", folds=("0", "1"), device="cpu", epochs=1, steps_per_epoch=2)


@pytest.fixture(scope="session")
def experiment_template(planned_template, tmp_path_factory):
    """``Tiny`` with an experiment of two folds of both configurations."""
    root = tmp_path_factory.mktemp("experiment") / "root"
    shutil.copytree(planned_template, root)
    with pytest.raises(SystemExit) as stop:
        run_command(["-d", "Tiny", "-f", "0", "1", "--root", str(root), "--device", "cpu", "-q", *SHORT])
    assert stop.value.code == 0
    return root


@pytest.fixture
def root(experiment_template, tmp_path):
    shutil.copytree(experiment_template, tmp_path / "root", copy_function=shutil.copy2)
    return tmp_path / "root"


@pytest.fixture
def paths(root):
    return ExperimentPaths.of(Store(root), "Tiny")


@pytest.fixture
def run_again(root, capsys):
    """The command once more; gives exit code, table and log."""

    def call(*options):
        with pytest.raises(SystemExit) as stop:
            run_command(["-d", "Tiny", "-f", "0", "1", "--root", str(root), "--device", "cpu", *SHORT, *options])
        printed = capsys.readouterr()
        return stop.value.code, printed.out, printed.err

    return call


@pytest.fixture
def train_with(monkeypatch):
    """Train jobs by a function instead."""

    def replace(run_trainings):
        executor = nullcontext(Executor(run_trainings=run_trainings, run_cases=run_cases))
        monkeypatch.setattr(command_module, "open_executor", lambda *arguments, **options: executor)

    return replace


def held_out_cases(root):
    folds = json.loads((root / "autoseg_preprocessed" / "Tiny" / "folds.json").read_text())["folds"]
    return sorted(case for fold in folds[:2] for case in fold["validation"])


def weights(root):
    return {path: path.stat().st_mtime_ns for path in (root / "autoseg_results/Tiny").rglob("model.safetensors")}


def test_candidates_are_scored_on_held_out_cases_alone(paths, root):
    found = read_record(Experiment, paths.outcome, advice="")
    assert set(found.candidates) == {"3d", "2d", "3d+2d"}
    assert found.folds == ("0", "1")
    for name, candidate in found.candidates.items():
        scores = json.loads((paths.candidate(name) / "scores.json").read_text())
        assert sorted(case["case"] for case in scores["cases"]) == held_out_cases(root)
        dices = [case["scores"]["lesion"]["dice"] for case in scores["cases"]]
        assert candidate.target == pytest.approx(np.mean(dices))
        assert candidate.lower <= candidate.target <= candidate.upper
    assert found.candidates[found.winner].target == max(c.target for c in found.candidates.values())
    assert found.target_before == pytest.approx(found.candidates[found.winner].target)


def test_a_single_configuration_is_scored_as_its_folds_were(paths):
    scores = json.loads((paths.candidate("3d") / "scores.json").read_text())
    ours = {case["case"]: case["scores"]["lesion"]["dice"] for case in scores["cases"]}
    for fold in "01":
        theirs = json.loads((paths.results / "3d" / f"fold_{fold}" / "scores.json").read_text())
        for case in theirs["cases"]:
            expected = case["scores"]["lesion"]["dice"]
            assert ours[case["case"]] == (1.0 if expected is None else expected)  # both masks empty


def test_the_finished_masks_and_their_scores_belong_together(paths, root):
    found = read_record(Experiment, paths.outcome, advice="")
    assert sorted(path.name for path in paths.held_out.glob("*.nii.gz")) == [
        f"{c}.nii.gz" for c in held_out_cases(root)
    ]
    scores = json.loads((paths.held_out / "scores.json").read_text())
    assert found.target_after == pytest.approx(np.mean([case["scores"]["lesion"]["dice"] for case in scores["cases"]]))
    volumes = {case["case"]: case["prediction_volume_ml"]["lesion"] for case in scores["cases"]}
    for case, volume in volumes.items():
        voxels, grid = read_voxels(paths.held_out / f"{case}.nii.gz")
        assert np.count_nonzero(voxels) * grid.voxel_volume_ml == pytest.approx(volume)


def test_the_best_is_complete_in_itself_and_doubts_are_told(paths):
    found = read_record(Experiment, paths.outcome, advice="")
    best = read_record(BestModel, paths.best / "best.json", advice="")
    assert best.members == found.candidates[found.winner].members
    assert best.postprocessing == found.postprocessing
    assert best.temperature == found.calibration.temperature
    for member in best.members:
        assert (paths.best / member / "plan.json").exists()
        assert (paths.best / member / "fold_1" / "model.safetensors").exists()
    assert found.doubts
    assert all(doubt.reason.endswith(".") for doubt in found.doubts)
    assert {doubt.disagreement is not None for doubt in found.doubts} == {True}  # two configurations


def test_it_ends_with_a_report_of_the_finished_masks(paths, root):
    found = read_record(Experiment, paths.outcome, advice="")
    page = (paths.results / "report.html").read_text()
    assert f"{found.winner} was selected. </strong>" in page
    assert f"{found.winner} (post-processed): scores of {len(held_out_cases(root))} held-out cases" in page
    assert all(f'<span class="case">{case}</span>' in page for case in held_out_cases(root))
    assert page.count('class="viewer"') == min(3, len(held_out_cases(root)))


def test_a_report_that_fails_is_no_reason_to_fail(run_again, monkeypatch):
    def fail(*arguments, **options):
        raise StorageError("the disk is full")

    monkeypatch.setattr(command_module, "report", fail)
    code, _, err = run_again()
    assert code == 0
    assert "the report was not written: the disk is full" in err


def test_a_second_run_does_nothing_and_shows_the_same(run_again, root, paths):
    before, outcome = weights(root), paths.outcome.stat().st_mtime_ns
    code, out, err = run_again()
    assert code == 0
    assert "the experiment is complete" in err
    assert "epoch" not in err
    assert (weights(root), paths.outcome.stat().st_mtime_ns) == (before, outcome)
    assert "95 % interval" in out
    assert "winner" in out


def test_another_target_compares_again_and_trains_nothing(run_again, root, paths):
    trained = {path: time for path, time in weights(root).items() if "best" not in path.parts}
    code, _, err = run_again("--target", "hd95_pooled")
    assert code in (0, 2)
    if code == 2:  # networks trained for two steps may leave every mask empty somewhere
        assert "choose another target metric" in err
        return
    assert read_record(Experiment, paths.outcome, advice="").target_metric == "hd95_pooled"
    assert {path: time for path, time in weights(root).items() if "best" not in path.parts} == trained


def test_lost_probabilities_are_predicted_again_and_scored_cases_are_kept(run_again, paths):
    lost = next((paths.results / "2d" / "fold_0" / "validation").glob("*.npz"))
    case = lost.name.removesuffix(".npz")
    lost.unlink()
    kept = {path: path.stat().st_mtime_ns for path in paths.study("x").parent.glob("*.json") if path.stem != case}
    paths.outcome.unlink()
    code, _, err = run_again()
    assert code == 0
    assert lost.exists()
    assert "3 of 4 folds are already trained and predicted" in err
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_fold_killed_among_its_last_files_gets_them_and_keeps_no_leftover(run_again, paths):
    summary = paths.results / "2d" / "fold_0" / "scores_summary.csv"
    content = summary.read_bytes()
    summary.unlink()
    killed = subprocess.Popen(["true"])
    killed.wait()
    ours = hidden_beside(paths.results / "3d" / "fold_0" / "run.json")
    leftover = ours.with_name(ours.name.replace(f"-{os.getpid():x}-", f"-{killed.pid:x}-"))
    leftover.touch()
    assert run_again()[0] == 0
    assert summary.read_bytes() == content
    assert not leftover.exists()


def test_damaged_probabilities_are_named_with_what_to_do(run_again, paths):
    damaged = next((paths.results / "2d" / "fold_0" / "validation").glob("*.npz"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    paths.outcome.unlink()
    code, _, err = run_again()
    assert code == 2
    assert f"{damaged} is missing or damaged" in err
    assert "delete it and run the same command again" in err


def test_discarded_probabilities_are_gone(run_again, paths):
    paths.outcome.unlink()
    assert run_again("--discard-probabilities")[0] == 0
    assert not list(paths.results.glob("*/fold_*/validation/*.npz"))
    assert list(paths.results.glob("*/fold_*/validation/*.nii.gz"))


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (("--target", "dise"), "unknown metric 'dise'"),
        (("-c", "4d"), "unknown configuration '4d'"),
        (("-f", "9"), "unknown fold '9' of Tiny"),
    ],
)
def test_what_does_not_exist_is_said_before_anything_is_trained(run_again, root, option, sentence):
    before = weights(root)
    code, _, err = run_again(*option)
    assert code == 2
    assert sentence in err
    assert weights(root) == before


# ------------------------------------------------------------------------------------------ stopped, failed


def forget(paths, job):
    configuration, fold = job
    (paths.results / configuration / f"fold_{fold}" / "model.safetensors").unlink()
    paths.outcome.unlink(missing_ok=True)


def test_a_fold_that_fails_is_named_and_the_others_are_compared(root, paths, train_with):
    forget(paths, ("2d", "1"))

    def fail(requests):
        for request in requests:
            yield TrainingResult(job=request.job, failure="the loss was not finite")

    train_with(fail)
    with pytest.raises(TrainingError) as error:
        run_experiment(Store(root), OPTIONS)
    assert "1 of 4 folds failed; 3d were compared without them:\n  2d fold 1: the loss was not finite" in str(
        error.value
    )
    assert set(read_record(Experiment, paths.outcome, advice="").candidates) == {"3d"}


def test_where_every_configuration_failed_nothing_is_compared(root, paths, train_with):
    forget(paths, ("2d", "1"))
    forget(paths, ("3d", "0"))

    def fail(requests):
        for request in requests:
            yield TrainingResult(job=request.job, failure="no memory")

    train_with(fail)
    with pytest.raises(TrainingError, match="2 of 4 folds failed; nothing can be compared yet"):
        run_experiment(Store(root), OPTIONS)
    assert not paths.outcome.exists()


def test_what_is_stopped_goes_on_where_it_was(root, paths, monkeypatch):
    paths.outcome.unlink()
    shutil.rmtree(paths.study("x").parent)
    polls = iter([False] + [True] * 100)
    assert run_experiment(Store(root), OPTIONS, should_stop=lambda: next(polls)) is None
    scored = list(paths.study("x").parent.glob("*.json"))
    assert 0 < len(scored) < len(held_out_cases(root))
    assert not paths.outcome.exists()
    times = {path: path.stat().st_mtime_ns for path in scored}
    assert run_experiment(Store(root), OPTIONS) is not None
    assert {path: path.stat().st_mtime_ns for path in scored} == times


def test_a_fold_that_was_begun_keeps_its_length(root, paths, train_with):
    forget(paths, ("2d", "1"))
    path = paths.results / "2d" / "fold_1" / "fold.json"
    begun = json.loads(path.read_text())
    path.write_text(json.dumps({**begun, "finished": False, "time_budget_s": 7.5}))
    requests = []

    def remember(given):
        requests.extend(given)
        return iter(())

    budget = RunOptions(dataset="Tiny", folds=("0", "1"), device="cpu", time_budget_s=1000)
    train_with(remember)
    run_experiment(Store(root), budget)
    assert [(request.job.name, request.time_budget_s) for request in requests] == [("2d fold 1", 7.5)]


# ------------------------------------------------------------------------------------------ the best model


def test_predict_takes_the_best_unless_told_otherwise(run, root, tmp_path):
    scans = root / "autoseg_raw" / "Tiny" / "imagesTr"
    code, _, err = run("predict", "-i", scans, "-o", tmp_path / "masks", "--root", root, "--device", "cpu")
    assert code == 0
    assert "predicting 6 scans with Tiny/best" in err
    code, _, err = run("predict", "-i", scans, "-o", tmp_path / "masks", "--root", root, "-c", "2d", "--device", "cpu")
    assert code == 0
    assert "predicting 6 scans with Tiny/2d" in err
    assert "6 masks of another model" in err


def test_an_ensemble_is_the_finished_mean_of_its_members(run, root, paths, tmp_path):
    setting = {"lesion": PostProcessing(threshold=0.4, smallest_lesion_ml=0.02, fill_holes=True)}
    write_best(paths, "Tiny", ("3d", "2d"), ("0", "1"), postprocessing=setting, temperature=0.7)
    scans = root / "autoseg_raw" / "Tiny" / "imagesTr"
    common = ("-i", scans, "--root", root, "--probabilities", "--device", "cpu")
    for name in ("3d", "2d"):
        assert run("predict", *common, "-o", tmp_path / name, "-c", name)[0] == 0
    code, _, err = run("predict", *common, "-o", tmp_path / "best")
    assert code == 0
    assert "mean of Tiny/3d, folds 0, 1" in err
    assert "post-processing of lesion: a probability of 0.4 or more" in err
    outputs = Outputs(names=("background", "lesion"), values=(0, 1), overlap=False)
    for number in range(6):
        shares = [np.load(tmp_path / name / f"case{number}.npz")["probabilities"] for name in ("3d", "2d")]
        mean = temper(np.mean([s.astype(np.float32) for s in shares], axis=0), 0.7, overlap=False)
        found = np.load(tmp_path / "best" / f"case{number}.npz")
        assert np.allclose(found["probabilities"], mean, atol=3e-3)  # float16
        mask, grid = read_voxels(tmp_path / "best" / f"case{number}.nii.gz")
        expected = finish_mask(mean, outputs, setting, voxel_volume_ml=grid.voxel_volume_ml)
        assert np.count_nonzero(mask != expected) <= 0.002 * mask.size  # a threshold met within rounding
    assert run("predict", *common, "-o", tmp_path / "best")[2].count("6 of the masks exist already") == 1
    write_best(paths, "Tiny", ("3d", "2d"), ("0", "1"), postprocessing={}, temperature=0.7)
    assert "6 masks of another model" in run("predict", *common, "-o", tmp_path / "best")[2]


def test_the_best_of_one_model_alone_is_that_model(run, root, paths, tmp_path):
    write_best(paths, "Tiny", ("3d",), ("0", "1"), postprocessing={}, temperature=2.0)
    scans = root / "autoseg_raw" / "Tiny" / "imagesTr"
    common = ("-i", scans, "--root", root, "--device", "cpu")
    run("predict", *common, "-o", tmp_path / "best")
    run("predict", *common, "-o", tmp_path / "3d", "-c", "3d")
    for number in range(6):
        masks = [read_voxels(tmp_path / name / f"case{number}.nii.gz")[0] for name in ("best", "3d")]
        assert np.array_equal(*masks)


def test_the_best_holds_the_folds_that_were_compared_and_no_others(paths):
    shutil.copytree(paths.results / "3d" / "fold_0", paths.results / "3d" / "fold_4")
    write_best(paths, "Tiny", ("3d",), ("0", "1"), postprocessing={}, temperature=1.0)
    assert sorted(path.name for path in (paths.best / "3d").glob("fold_*")) == ["fold_0", "fold_1"]


def test_a_copy_of_the_best_predicts_elsewhere(run, root, paths, tmp_path):
    shutil.copytree(paths.best, tmp_path / "other" / "autoseg_results" / "Tiny" / "best")
    scans = root / "autoseg_raw" / "Tiny" / "imagesTr"
    code, _, _ = run("predict", "-i", scans, "-o", tmp_path / "masks", "--root", tmp_path / "other", "--device", "cpu")
    assert code == 0
    assert len(list((tmp_path / "masks").glob("*.nii.gz"))) == 6


def test_a_best_that_lacks_a_member_says_so(run, root, paths, tmp_path):
    best = read_record(BestModel, paths.best / "best.json", advice="")
    write_record(paths.best / "best.json", best.model_copy(update={"members": ("4d",)}))
    scans = root / "autoseg_raw" / "Tiny" / "imagesTr"
    code, _, err = run("predict", "-i", scans, "-o", tmp_path / "masks", "--root", root, "--device", "cpu")
    assert code == 2
    assert "lacks the model '4d', a member of the ensemble" in err


def test_a_full_disk_leaves_the_former_best(paths, monkeypatch):
    before = (paths.best / "best.json").read_bytes()

    def refuse(path, record):
        raise StorageError(f"{path} could not be written: the disk is full")

    monkeypatch.setattr(finish, "write_record", refuse)
    with pytest.raises(StorageError):
        write_best(paths, "Tiny", ("3d", "2d"), ("0", "1"), postprocessing={}, temperature=1.0)
    assert (paths.best / "best.json").read_bytes() == before
    assert not [path for path in paths.results.iterdir() if path.name.startswith(".")]
