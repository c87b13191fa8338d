"""autoseg_predict: cases overlap, options change masks, a second run continues, and parts share a folder."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from autoseg.core.devices import choose_devices
from autoseg.core.errors import DataError, MemoryShortageError, StorageError, UsageError
from autoseg.core.images import read_voxels
from autoseg.core.records import Case, ChannelFile
from autoseg.datasets import find_scans, read_image
from autoseg.model import load_model
from autoseg.pipeline.predict import select_part
from autoseg.prediction import overlapping, predict_scan
from autoseg.prediction.adapting import adapt_model
from autoseg.prediction.ensembles import Ensemble
from autoseg.prediction.overlapping import predict_cases

CPU = torch.device("cpu")
NAMES = [f"case{number}.nii.gz" for number in range(6)]


@pytest.fixture
def scans(trained):
    return trained / "autoseg_raw" / "Tiny" / "imagesTr"


@pytest.fixture
def model(trained):
    return load_model(trained / "autoseg_results" / "Tiny" / "3d", None, CPU)


@pytest.fixture
def alone(model):
    return Ensemble(name=model.name, members=(model,))


@pytest.fixture
def predict(run, trained, scans, tmp_path):
    """Predict into a folder below the test's own; gives exit code and log."""

    def call(output, *options):
        code, _, err = run("predict", "-i", scans, "-o", tmp_path / output, "--root", trained, *options)
        return code, err

    return call


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.nii.gz")}


def read_masks(folder):
    return {path.name: read_voxels(path)[0] for path in sorted(folder.glob("*.nii.gz"))}


def assert_same_masks(one, other):
    ours, theirs = read_masks(one), read_masks(other)
    assert list(ours) == list(theirs) == NAMES
    assert all(np.array_equal(ours[name], theirs[name]) for name in NAMES)


# ------------------------------------------------------------------------------------------- overlapping


def test_overlapped_cases_give_what_one_after_the_other_gives(model, alone, scans):
    cases, _ = find_scans(scans, model.plan.channels)

    def read(case):
        return read_image(case.id, case.channels, model.plan.channels)

    written = {}
    outcomes = list(
        predict_cases(
            alone,
            cases,
            CPU,
            read=read,
            write=lambda case, mask, probabilities: written.update({case.id: (mask, probabilities)}),
            keep_probabilities=True,
        )
    )
    assert [outcome.name for outcome in outcomes] == list(written) == [case.id for case in cases]
    assert not any(outcome.failure for outcome in outcomes)
    for case in cases:
        mask, probabilities = written[case.id]
        expected = predict_scan(alone, case.id, read(case), CPU)
        assert np.array_equal(mask.voxels, expected.voxels)
        assert mask.grid == expected.grid
        assert probabilities.shape == (2, *mask.voxels.shape)
    assert any(mask.voxels.any() for mask, _ in written.values())


def test_one_case_is_read_ahead_and_one_written_behind_in_threads_of_their_own(model, alone, scans, monkeypatch):
    cases, _ = find_scans(scans, model.plan.channels)
    events, threads = [], {"main": threading.get_ident()}

    def read(case):
        events.append(("read", case.id))
        threads["read"] = threading.get_ident()
        return read_image(case.id, case.channels, model.plan.channels)

    def write(case, mask, probabilities):
        events.append(("written", case.id))
        threads["write"] = threading.get_ident()

    rows = overlapping.case_rows

    def compute(model, case, device):
        events.append(("computing", case.id))
        return rows(model, case, device)

    monkeypatch.setattr(overlapping, "case_rows", compute)
    assert len(list(predict_cases(alone, cases, CPU, read=read, write=write))) == 6
    assert len(set(threads.values())) == 3
    for number, case in enumerate(cases):
        computing = events.index(("computing", case.id))
        assert events.index(("read", case.id)) < computing < events.index(("written", case.id))
        if number + 2 < len(cases):
            assert computing < events.index(("read", cases[number + 2].id))  # at most one ahead
        if number >= 2:
            assert events.index(("written", cases[number - 2].id)) < computing  # at most one behind


def test_a_case_that_fails_anywhere_is_said_in_its_place_and_the_others_are_done(model, alone, scans, monkeypatch):
    cases, _ = find_scans(scans, model.plan.channels)
    rows = overlapping.case_rows

    def read(case):
        if case.id == "case0":
            raise DataError("case0: unreadable")
        if case.id == "case1":
            raise MemoryError
        return read_image(case.id, case.channels, model.plan.channels)

    def compute(model, case, device):
        yield next(rows(model, case, device))
        if case.id == "case3":
            raise MemoryShortageError("case3: GPU full")
        yield from list(rows(model, case, device))[1:]

    def write(case, mask, probabilities):
        if case.id == "case5":
            raise DataError("case5: disk")

    monkeypatch.setattr(overlapping, "case_rows", compute)
    outcomes = list(predict_cases(alone, cases, CPU, read=read, write=write))
    assert [outcome.failure for outcome in outcomes] == [
        "case0: unreadable",
        "case case1: the machine ran out of memory; close other programs, and run the same command again",
        None,
        "case3: GPU full",
        None,
        "case5: disk",
    ]


def test_a_bug_costs_its_case_is_logged_and_leaves_no_thread(model, alone, scans, caplog):
    cases, _ = find_scans(scans, model.plan.channels)
    before = threading.active_count()

    def write(case, mask, probabilities):
        raise KeyError("bug")

    def read(case):
        return read_image(case.id, case.channels, model.plan.channels)

    outcomes = list(predict_cases(alone, cases[:2], CPU, read=read, write=write))
    assert [outcome.failure for outcome in outcomes] == ["case case0: KeyError: 'bug'", "case case1: KeyError: 'bug'"]
    assert "Traceback" in caplog.text
    assert threading.active_count() == before


def test_a_full_disk_ends_the_work_at_once(model, alone, scans):
    cases, _ = find_scans(scans, model.plan.channels)
    written = []

    def write(case, mask, probabilities):
        written.append(case.id)
        raise StorageError("the disk is full")

    def read(case):
        return read_image(case.id, case.channels, model.plan.channels)

    with pytest.raises(StorageError, match="the disk is full"):
        list(predict_cases(alone, cases, CPU, read=read, write=write))
    assert len(written) <= 2  # of six


def test_what_does_not_fit_is_not_read_ahead(model, alone, scans, monkeypatch):
    cases, _ = find_scans(scans, model.plan.channels)
    grid = 12 * 20 * 16
    finer = 2.0 / np.prod(list(model.configuration.preprocessing.spacing))
    needed = 4 * overlapping.COPIES * 2 * grid * max(1.0, finer)
    for free, fits in (
        (needed * 1.01 / overlapping.MAX_FREE_SHARE, True),
        (needed * 0.99 / overlapping.MAX_FREE_SHARE, False),
    ):
        monkeypatch.setattr(overlapping, "free_bytes", lambda device, free=free: free)
        assert overlapping._fits(alone, cases[0]) is fits
    read = lambda case: read_image(case.id, case.channels, model.plan.channels)  # noqa: E731
    outcomes = list(predict_cases(alone, cases[:3], CPU, read=read, write=lambda *files: None))
    assert [outcome.failure for outcome in outcomes] == [None] * 3


# ------------------------------------------------------------------------------------------- options


def test_other_tiles_make_other_masks_and_are_predicted_again(predict, tmp_path):
    assert predict("masks")[0] == 0
    before = times(tmp_path / "masks")
    code, err = predict("masks", "--step", "0.9", "--mirror")
    assert code == 0
    assert "6 masks of another model or of other options; they are predicted again" in err
    after = times(tmp_path / "masks")
    assert all(after[name] > before[name] for name in NAMES)
    code, err = predict("masks", "--step", "0.9", "--mirror")
    assert "6 of the masks exist already" in err
    assert times(tmp_path / "masks") == after


def test_mirroring_is_dropped_on_a_cpu_unless_the_plan_was_made_for_one(model, caplog):
    def axes(preset, planned, mirror, device="cpu"):
        tiling = model.configuration.tiling.model_copy(update={"mirror_axes": planned})
        plan = model.plan.model_copy(update={"preset": preset})
        configuration = model.configuration.model_copy(update={"tiling": tiling})
        changed = replace(model, plan=plan, configuration=configuration)
        adapted = adapt_model(changed, torch.device(device), mirror=mirror)
        return adapted.configuration.tiling.mirror_axes

    with caplog.at_level("INFO", logger="autoseg"):
        assert axes("standard", (0, 1, 2), None, "cuda") == (0, 1, 2)
        assert axes("pocket", (0, 1, 2), None) == (0, 1, 2)
        assert axes("standard", (0, 1, 2), True) == (0, 1, 2)
        assert axes("standard", (0, 1, 2), False, "cuda") == ()
        assert axes("pocket", (), True) == model.configuration.augmentation.mirror_axes != ()
        assert not caplog.messages
        assert axes("standard", (0, 2), None) == ()
    assert "the planned mean of 4 mirror images takes 4 times as long" in caplog.text
    assert "use --mirror to get it" in caplog.text


def test_mirroring_that_training_never_saw_is_refused(model):
    configuration = model.configuration.model_copy(
        update={
            "tiling": model.configuration.tiling.model_copy(update={"mirror_axes": ()}),
            "augmentation": model.configuration.augmentation.model_copy(update={"mirror_axes": ()}),
        }
    )
    with pytest.raises(UsageError, match="was trained without mirroring"):
        adapt_model(replace(model, configuration=configuration), CPU, mirror=True)


def test_probabilities_lie_beside_their_mask(predict, tmp_path):
    masks = tmp_path / "masks"
    assert predict("masks")[0] == 0
    before = times(masks)
    assert predict("masks", "--probabilities")[0] == 0
    assert all(times(masks)[name] > before[name] for name in NAMES)
    for name, mask in read_masks(masks).items():
        found = np.load(masks / f"{name.removesuffix('.nii.gz')}.npz")
        shares = found["probabilities"].astype(np.float32)
        assert found["probabilities"].dtype == np.float16
        assert shares.shape == (2, *mask.shape)
        assert found["names"].tolist() == ["background", "lesion"]
        assert found["values"].tolist() == [0, 1]
        assert np.allclose(shares.sum(axis=0), 1, atol=2e-3)
        clear = np.abs(shares[0] - shares[1]) > 1e-2
        assert clear.any()
        assert np.array_equal(mask[clear], shares.argmax(axis=0)[clear])
    made = times(masks)
    (masks / "case4.npz").unlink()
    assert "5 of the masks exist already" in predict("masks", "--probabilities")[1]
    assert (masks / "case4.npz").exists()
    assert {name for name, time in times(masks).items() if time != made[name]} == {"case4.nii.gz"}


def test_probabilities_of_a_former_way_do_not_stay(predict, tmp_path):
    assert predict("masks", "--probabilities")[0] == 0
    assert predict("masks", "--step", "1")[0] == 0
    assert not list((tmp_path / "masks").glob("*.npz"))


@pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed (pip install openvino)"
)
def test_openvino_gives_the_same_masks(predict, tmp_path):
    assert predict("torch", "--engine", "torch")[0] == 0
    code, err = predict("openvino", "--engine", "openvino")
    assert code == 0
    assert "Tiny/3d is computed by " in err
    ours, theirs = read_masks(tmp_path / "torch"), read_masks(tmp_path / "openvino")
    assert sum(int((ours[name] != theirs[name]).sum()) for name in NAMES) <= 6  # voxels at a tie


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--step", "0", "invalid share of a tile"),
        ("--step", "1.5", "invalid share of a tile"),
        ("--part", "3/2", "invalid part"),
        ("--part", "0/2", "invalid part"),
        ("--part", "half", "invalid part"),
        ("--device", "gpu", "invalid device"),
        ("--device", "cuda:0,cuda:0", "GPU"),
    ],
)
def test_options_that_make_no_sense_are_said(predict, tmp_path, option, value, said):
    code, err = predict("masks", option, value)
    assert code == 2
    assert said in err
    assert not (tmp_path / "masks").exists()


# ------------------------------------------------------------------------------------------- stopping and sharing

KILL = """
import os, signal, sys
from autoseg.cli import predict
from autoseg.pipeline import predict as command

write, made = command.write_voxels, []

def write_and_die(path, *rest, **others):
    if len(made) == 2:
        path.with_name(f".half.{path.name}").write_bytes(b"half a mask")
        os.kill(os.getpid(), signal.SIGKILL)
    made.append(path)
    write(path, *rest, **others)

command.write_voxels = write_and_die
predict(sys.argv[1:])
"""


def test_after_a_kill_the_finished_masks_stay_and_the_others_follow(predict, trained, scans, tmp_path):
    argv = ["-i", str(scans), "-o", str(tmp_path / "masks"), "--root", str(trained)]
    killed = subprocess.run([sys.executable, "-c", KILL, *argv], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    before = times(tmp_path / "masks")
    finished = {name for name in before if not name.startswith(".")}
    assert finished == {"case0.nii.gz", "case1.nii.gz"}
    code, err = predict("masks")
    assert code == 0
    assert "2 of the masks exist already" in err
    assert all(times(tmp_path / "masks")[name] == before[name] for name in finished)
    (tmp_path / "masks" / ".half.case2.nii.gz").unlink()
    predict("whole")
    assert_same_masks(tmp_path / "masks", tmp_path / "whole")


INTERRUPT = """
import os, signal, sys
from autoseg.cli import predict
from autoseg.prediction import overlapping

signal.signal(signal.SIGINT, signal.default_int_handler)
rows = overlapping.case_rows

def interrupted(model, case, device):
    if case.id == "case3":
        os.kill(os.getpid(), signal.SIGINT)
    return rows(model, case, device)

overlapping.case_rows = interrupted
predict(sys.argv[1:])
"""


def test_ctrl_c_ends_cleanly_and_the_same_command_goes_on(predict, trained, scans, tmp_path):
    argv = ["-i", str(scans), "-o", str(tmp_path / "masks"), "--root", str(trained)]
    stopped = subprocess.run([sys.executable, "-c", INTERRUPT, *argv], check=False, capture_output=True, text=True)
    assert stopped.returncode == 130, stopped.stderr
    assert "the same command resumes" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    left = {path.name for path in (tmp_path / "masks").iterdir()} - {"predictions", "run.json", "run.log"}
    assert json.loads((tmp_path / "masks" / "run.json").read_text())["exit_code"] == 130
    assert left in ({"case0.nii.gz", "case1.nii.gz"}, {"case0.nii.gz", "case1.nii.gz", "case2.nii.gz"})
    assert {path.name.removesuffix(".json") for path in (tmp_path / "masks" / "predictions").iterdir()} == left
    assert predict("masks")[0] == 0
    assert len(times(tmp_path / "masks")) == 6


def test_parts_are_disjoint_and_together_the_whole(predict, tmp_path):
    assert predict("parts", "--part", "1/2")[0] == 0
    first = times(tmp_path / "parts")
    assert sorted(first) == ["case0.nii.gz", "case2.nii.gz", "case4.nii.gz"]
    assert predict("parts", "--part", "2/2")[0] == 0
    both = times(tmp_path / "parts")
    assert sorted(both) == NAMES
    assert {name: both[name] for name in first} == first
    code, err = predict("parts")
    assert code == 0
    assert "6 of the masks exist already" in err
    assert times(tmp_path / "parts") == both
    predict("whole")
    assert_same_masks(tmp_path / "parts", tmp_path / "whole")


def test_several_devices_work_side_by_side_and_name_every_bad_scan(predict, scans, tmp_path):
    (scans / "case2_0001.nii.gz").unlink()
    (scans / "case5_0000.nii.gz").write_bytes(b"")
    code, err = predict("masks", "--device", "cpu,cpu")
    assert code == 2
    assert "2 of 6 cases failed while predicting; the others are done" in err
    assert "case2:" in err
    assert "case5:" in err
    assert sorted(times(tmp_path / "masks")) == [NAMES[number] for number in (0, 1, 3, 4)]
    predict("alone")
    ours, theirs = read_masks(tmp_path / "masks"), read_masks(tmp_path / "alone")
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_parts_of_parts():
    cases = [Case(id=f"c{number}", channels=(ChannelFile(path="x"),)) for number in range(10)]
    failures = {"bad": "why"}
    seen = []
    for number in (1, 2, 3):
        for inner in (1, 2):
            mine, failed = select_part(cases, failures, [(number, 3), (inner, 2)])
            seen += [case.id for case in mine] + list(failed)
    assert sorted(seen) == sorted(["bad", *(case.id for case in cases)])


def test_devices():
    assert choose_devices("auto") == ("auto",)
    assert choose_devices("cuda:0, cuda:1") == ("cuda:0", "cuda:1")
    with pytest.raises(UsageError, match="named twice"):
        choose_devices("cuda:0,cuda:0")
    with pytest.raises(UsageError, match="invalid device 'xpu'"):
        choose_devices("xpu")


def test_masks_of_another_model_are_predicted_again_also_after_a_third(predict, trained, scans, tmp_path):
    """Each mask's record says what made it last, whoever made it before."""
    weights = trained / "autoseg_results" / "Tiny" / "3d" / "fold_0" / "model.safetensors"
    predict("masks", "--part", "1/2")
    content, stat = weights.read_bytes(), weights.stat()
    weights.write_bytes(content)  # another time, so another model
    predict("masks")
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    before = times(tmp_path / "masks")
    assert predict("masks")[0] == 0
    assert all(time > before[name] for name, time in times(tmp_path / "masks").items())
