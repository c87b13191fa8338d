"""``autoseg_subset`` and trainings on fewer cases."""

import json

from autoseg.core.records import Folds
from autoseg.core.store import Store, read_record, write_record

ONE = ("--epochs", "1", "--steps-per-epoch", "1")


def test_a_subset_is_trained_in_a_folder_of_its_own_and_scored_on_the_whole_fold(planned, run):
    code, out, _ = run("subset", "-d", "Tiny", "-n", "3", "2", "--root", planned)
    assert code == 0
    assert out.splitlines()[0].split()[:2] == ["fold", "cases"]
    assert "next: autoseg_train -d Tiny -c 3d -f 0 --subset 2" in out
    code, _, err = run("train", "-d", "Tiny", "-c", "3d", "-f", "0", "--subset", "2", "--root", planned, *ONE)
    assert code == 0, err
    fold = planned / "autoseg_results" / "Tiny" / "3d__n2" / "fold_0"
    trained = json.loads((fold / "fold.json").read_text())
    whole = read_record(Folds, planned / "autoseg_preprocessed" / "Tiny" / "folds.json", advice="").folds[0]
    assert len(trained["train"]) == 2
    assert set(trained["train"]) < set(whole.train)
    assert trained["validation"] == list(whole.validation)
    assert (fold / "scores.json").exists()
    assert not (planned / "autoseg_results" / "Tiny" / "3d").exists()


def test_what_is_asked_for_must_be_there_and_fit_the_folds(planned, run):
    train = ("train", "-d", "Tiny", "-c", "3d", "-f", "0", "--root", planned, *ONE, "--subset")
    code, _, err = run(*train, "2")
    assert code == 2
    assert "subsets.json does not exist; make it with: autoseg_subset -d Tiny -n 2" in err
    code, _, err = run("subset", "-d", "Tiny", "-n", "9", "--root", planned)
    assert code == 2
    assert "9 cases were requested, but fold" in err
    assert run("subset", "-d", "Tiny", "-n", "2", "--root", planned)[0] == 0
    code, _, err = run(*train, "3")
    assert code == 2
    assert "no subset of 3 cases of Tiny, only of 2; make it with: autoseg_subset -d Tiny -n 3" in err
    path = Store(planned).preprocessed("Tiny") / "folds.json"
    folds = read_record(Folds, path, advice="")
    write_record(path, folds.model_copy(update={"folds": (folds.folds[1], folds.folds[0], *folds.folds[2:])}))
    outcomes = [run("train", "-d", "Tiny", "-c", "3d", "-f", str(n), "--root", planned, *ONE, "--subset", "2")
                for n in range(2)]  # fmt: skip
    assert any(code == 2 and "was made of other folds than there are now" in err for code, _, err in outcomes)
