"""``scoring`` in the plan: what held-out cases are scored by when a fold is trained."""

import json

TRAIN = ("train", "-d", "Tiny", "-c", "3d", "-f", "0", "--epochs", "2", "--steps-per-epoch", "2")


def say(root, **scoring):
    path = root / "autoseg_preprocessed" / "Tiny" / "plan.json"
    plan = json.loads(path.read_text())
    plan["configurations"]["3d"]["scoring"] = scoring
    path.write_text(json.dumps(plan))


def scores_of(root):
    return json.loads((root / "autoseg_results" / "Tiny" / "3d" / "fold_0" / "scores.json").read_text())


def test_a_trained_fold_is_scored_anew_without_training(run, trained):
    before = scores_of(trained)
    say(trained, metrics=["accuracy", "dice"])
    code, _, err = run(*TRAIN, "--root", trained)
    assert code == 0, err
    assert "is trained already" in err
    after = scores_of(trained)
    assert list(after["conventions"]) == [*before["conventions"], "accuracy"]
    assert after["preset"] is None


def test_a_preset_is_followed(run, trained):
    say(trained, preset="slices")
    assert run(*TRAIN, "--root", trained)[0] == 0
    scores = scores_of(trained)
    assert scores["preset"] == "slices"
    assert list(scores["conventions"]) == ["dice", "iou", "accuracy", "precision", "sensitivity", "specificity"]


def test_what_cannot_be_scored_is_said_before_the_first_step(run, planned):
    for scoring, sentence in (
        ({"metrics": ["dicee"]}, "dicee"),
        ({"preset": "isles99"}, "unknown preset 'isles99'"),
        ({"metrics": ["average_precision"]}, "train with --probabilities, or remove it from the plan"),
    ):
        say(planned, **scoring)
        code, _, err = run(*TRAIN, "--root", planned)
        assert code == 2
        assert sentence in err
        assert not (planned / "autoseg_results" / "Tiny" / "3d").exists()


def test_with_probabilities_voxels_are_ranked(run, planned):
    say(planned, metrics=["average_precision"])
    code, _, err = run(*TRAIN, "--probabilities", "--root", planned)
    assert code == 0, err
    assert "average_precision" in scores_of(planned)["conventions"]
