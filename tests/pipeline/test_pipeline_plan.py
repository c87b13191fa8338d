"""``autoseg_plan``: what it plans for, which folds it makes, and what it leaves alone."""

import json
import threading
import time

import numpy as np
import psutil
import pytest
import torch

from autoseg.core.images import write_voxels
from autoseg.core.records import ChannelNormalization, Fingerprint, Grid, PreprocessingSettings
from autoseg.core.store import Store, read_record
from autoseg.preparation import arrays as preparing
from autoseg.preparation import measuring, open_raw

PLAN = ("plan", "-d", "Tiny", "--workers", 1)


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def read_plan(root):
    return json.loads((root / "autoseg_preprocessed" / "Tiny" / "plan.json").read_text())


# What nnU-Net would plan


def test_compatibility_means_standard_and_lasts(run, root):
    code, out, err = run(*PLAN, "--compat", "nnunet", "--root", root)
    assert code == 0
    assert "preset standard as nnU-Net plans" in out
    plan = read_plan(root)
    assert (plan["preset"], plan["compat"], plan["memory_gb"]) == ("standard", "nnunet", 8)
    assert plan["configurations"]["3d"]["preprocessing"]["orientation"] == "stored"
    _, _, err = run(*PLAN, "--root", root)
    assert "planning as before: preset standard as nnU-Net plans for 8 GB" in err
    assert read_plan(root) == plan
    run(*PLAN, "--memory", 6, "--root", root)
    assert (read_plan(root)["compat"], read_plan(root)["memory_gb"]) == ("nnunet", 6)


@pytest.mark.parametrize(
    ("argv", "preset", "memory_gb"),
    [(("--compat", "none"), "residual_m", 9), (("--preset", "pocket"), "pocket", 4)],
    ids=["none", "another preset"],
)
def test_compatibility_ends_where_it_is_said(run, root, argv, preset, memory_gb):
    run(*PLAN, "--compat", "nnunet", "--preset", "residual_m", "--memory", 9, "--root", root)
    assert (read_plan(root)["preset"], read_plan(root)["compat"]) == ("residual_m", "nnunet")
    code, _, err = run(*PLAN, *argv, "--root", root)
    assert code == 0
    assert "no longer nnU-Net-compatible" in err
    assert (read_plan(root)["preset"], read_plan(root)["compat"]) == (preset, None)
    assert read_plan(root)["memory_gb"] == memory_gb


@pytest.mark.parametrize("preset", ["pocket", "large"])
def test_a_preset_that_nnunet_has_not(run, root, preset):
    code, _, err = run(*PLAN, "--compat", "nnunet", "--preset", preset, "--root", root)
    assert code == 2
    assert f"preset '{preset}' is not one of nnU-Net's; choose from: standard, residual_m" in err
    assert not (root / "autoseg_preprocessed").exists()


def test_a_compatible_plan_trains(run, root):
    run(*PLAN, "--compat", "nnunet", "--root", root)
    argv = ("-d", "Tiny", "-c", "3d", "-f", 0, "--epochs", 1, "--steps-per-epoch", 1, "--device", "cpu")
    code, out, err = run("train", *argv, "--root", root)
    assert code == 0, err
    assert "dice" in out


# Which folds it makes

NNUNET = [
    {"train": ["case2", "case3", "case4"], "val": ["case0", "case1"]},
    {"train": ["case0", "case1"], "val": ["case2", "case3"]},
]


def read_folds(root):
    return json.loads((root / "autoseg_preprocessed" / "Tiny" / "folds.json").read_text())


def write_json(path, content):
    path.write_text(json.dumps(content))
    return path


def name_in_dataset(root, **facts):
    path = root / "autoseg_raw" / "Tiny" / "dataset.json"
    write_json(path, {**json.loads(path.read_text()), **facts})


def test_the_number_of_folds_lasts(run, planned):
    assert run(*PLAN, "--fold-count", 3, "--root", planned)[0] == 0
    made = read_folds(planned)
    assert len(made["folds"]) == 3
    run(*PLAN, "--root", planned)
    assert read_folds(planned) == made
    assert made["made_by"]["count"] == 3
    _, _, err = run(*PLAN, "--fold-count", 20, "--root", planned)
    assert "20 folds were requested, but only 6 patients can be held out" in err
    assert len(read_folds(planned)["folds"]) == 6


def test_a_site_at_a_time_lasts(run, planned):
    name_in_dataset(planned, sites={f"case{i}": "north" if i < 2 else "south" for i in range(6)})
    code, _, err = run(*PLAN, "--leave-one-site-out", "--root", planned)
    assert code == 0
    assert "folds: 2, one site held out at a time" in err
    made = read_folds(planned)
    assert [fold["validation"] for fold in made["folds"]] == [["case0", "case1"], ["case2", "case3", "case4", "case5"]]
    run(*PLAN, "--root", planned)
    assert read_folds(planned) == made


def test_a_site_at_a_time_needs_sites(run, planned):
    (planned / "autoseg_preprocessed" / "Tiny" / "facts.jsonl").unlink()
    code, _, err = run(*PLAN, "--leave-one-site-out", "--root", planned)
    assert code == 2
    assert "measuring" not in err
    assert (
        "dataset Tiny has 6 cases without one (case0, case1, case2 and 3 more); name the sites in dataset.json" in err
    )


def test_cases_measured_without_the_head_are_measured_again(run, planned):
    facts = planned / "autoseg_preprocessed" / "Tiny" / "facts.jsonl"
    rows = [json.loads(line) for line in facts.read_text().splitlines()]
    measured = [row["facts"].pop("head") for row in rows[:2]]
    facts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = run(*PLAN, "--root", planned)
    assert code == 0
    assert "measuring 2 of 6 cases" in err
    last = {row["facts"]["case"]: row["facts"]["head"] for row in map(json.loads, facts.read_text().splitlines())}
    assert [last[row["facts"]["case"]] for row in rows[:2]] == measured


def test_class_weights_by_frequency_last_until_they_are_dropped(run, planned):
    plan = planned / "autoseg_preprocessed" / "Tiny" / "plan.json"

    def read_weights():
        return [
            c["loss"]["options"].get("class_weights") for c in json.loads(plan.read_text())["configurations"].values()
        ]

    assert read_weights() == [None] * len(read_weights())
    assert run(*PLAN, "--class-weights", "frequency", "--root", planned)[0] == 0
    weighed = read_weights()
    assert all(len(weights) == 2 and weights[0] < weights[1] for weights in weighed)
    assert run(*PLAN, "--root", planned)[0] == 0
    assert read_weights() == weighed
    code, _, err = run("plan", "-d", "Tiny", "--compat", "nnunet", "--root", planned)
    assert code == 2
    assert "nnU-Net has no class weights" in err
    assert run(*PLAN, "--class-weights", "none", "--root", planned)[0] == 0
    assert read_weights() == [None] * len(weighed)


def test_imported_folds_last_and_what_they_lack_is_said(run, planned, tmp_path):
    splits = write_json(tmp_path / "splits_final.json", NNUNET)
    code, _, err = run(*PLAN, "--folds", splits, "--root", planned)
    assert code == 0
    assert "folds: 2, as splits_final.json states them" in err
    assert "1 labelled cases are in no fold and will not be used (case5)" in err
    made = read_folds(planned)
    assert [fold["validation"] for fold in made["folds"]] == [split["val"] for split in NNUNET]
    splits.unlink()
    code, _, err = run(*PLAN, "--root", planned)
    assert code == 0
    assert "case5" in err
    assert read_folds(planned) == made
    run(*PLAN, "--fold-count", 5, "--root", planned)
    assert len(read_folds(planned)["folds"]) == 5


def test_imported_folds_that_split_a_patient_are_said(run, planned, tmp_path):
    name_in_dataset(planned, groups={"case1": "p1", "case2": "p1"})
    splits = write_json(tmp_path / "splits_final.json", NNUNET)
    code, _, err = run(*PLAN, "--folds", splits, "--root", planned)
    assert code == 0
    assert "scans of 1 patients are both trained on and held out (p1 in fold 0)" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps([{"train": ["case0", "case9"], "val": ["case1"]}]), "names 1 cases that the dataset does not have"),
        (json.dumps([{"train": ["case0", "case1"], "val": ["case1"]}]), "both trains on and validates case1"),
        (json.dumps([{"train": [], "val": ["case1"]}]), "has no cases to train on"),
        (json.dumps([NNUNET[0], NNUNET[0]]), "holds 2 cases out in more than one fold"),
        (json.dumps({"seed": 1, "foldes": []}), "must hold a list of"),
        (json.dumps({"schema": 1, "seed": "x", "folds": []}), "'seed': input should be a valid integer"),
        ("{", "cannot be read as JSON"),
        (None, "does not exist"),
    ],
)
def test_a_wrong_file_of_folds_is_named_before_anything_is_measured(run, root, tmp_path, text, message):
    path = tmp_path / "mine.json"
    if text is not None:
        path.write_text(text)
    code, _, err = run(*PLAN, "--folds", path, "--root", root)
    assert code == 2
    assert "mine.json" in err
    assert message in err
    assert not (root / "autoseg_preprocessed").exists()


def test_one_way_to_make_folds_at_a_time(run, planned, tmp_path):
    code, _, err = run(*PLAN, "--fold-count", 3, "--leave-one-site-out", "--root", planned)
    assert code == 2
    assert "not allowed with" in err
    code, _, err = run(*PLAN, "--fold-count", 1, "--root", planned)
    assert code == 2
    assert "invalid integer '1'; use a whole number from 2" in err


def edit_folds(root):
    content = read_folds(root)
    for fold in content["folds"]:
        fold["train"] = [case for case in fold["train"] if case != "case5"]
    return write_json(root / "autoseg_preprocessed" / "Tiny" / "folds.json", content).read_text()


def test_edited_folds_are_not_replaced_by_an_option(run, planned):
    edited = edit_folds(planned)
    path = planned / "autoseg_preprocessed" / "Tiny" / "folds.json"
    for argv, message in (((), "edited by hand"), (("--keep",), "leave out the option that makes other folds")):
        code, _, err = run(*PLAN, "--fold-count", 3, *argv, "--root", planned)
        assert code == 2
        assert message in err
        assert path.read_text() == edited
    assert run(*PLAN, "--keep", "--root", planned)[0] == 0
    assert path.read_text() == edited
    assert run(*PLAN, "--fold-count", 3, "--replace", "--root", planned)[0] == 0
    assert (path.parent / "folds.before.json").read_text() == edited


def test_edited_folds_that_are_refused_leave_the_plan_as_it_was(run, planned):
    edit_folds(planned)
    before = read_plan(planned)
    assert run(*PLAN, "--compat", "nnunet", "--root", planned)[0] == 2
    assert read_plan(planned) == before


def test_imported_folds_that_were_edited_are_kept_or_refused(run, planned, tmp_path):
    run(*PLAN, "--folds", write_json(tmp_path / "splits_final.json", NNUNET), "--root", planned)
    path = planned / "autoseg_preprocessed" / "Tiny" / "folds.json"
    path.write_text(path.read_text().replace('"case3"', '"case5"'))
    edited = path.read_text()
    for argv in ((), ("--replace",)):
        code, _, err = run(*PLAN, *argv, "--root", planned)
        assert code == 2
        assert "was imported from splits_final.json and then edited by hand" in err
    assert run(*PLAN, "--keep", "--root", planned)[0] == 0
    assert path.read_text() == edited


# Patients


def rename_cases(root, names):
    for folder, endings in (("imagesTr", ("_0000.nii.gz", "_0001.nii.gz")), ("labelsTr", (".nii.gz",))):
        for number, name in enumerate(names):
            for ending in endings:
                path = root / "autoseg_raw" / "Tiny" / folder / f"case{number}{ending}"
                path.rename(path.with_name(name + ending))


def test_sessions_of_a_bids_subject_are_never_split(run, root):
    names = [f"sub-{patient}_ses-{session}" for patient in "abc" for session in (1, 2)]
    rename_cases(root, names)
    code, _, err = run(*PLAN, "--root", root)
    assert code == 0
    assert "6 cases of 3 patients" in err
    folds = read_folds(root)["folds"]
    assert sorted(case for fold in folds for case in fold["validation"]) == names
    for fold in folds:
        assert not {case.split("_")[0] for case in fold["train"]} & {case.split("_")[0] for case in fold["validation"]}


def test_groups_of_the_dataset_go_before_names(run, root):
    rename_cases(root, [f"sub-{patient}_ses-{session}" for patient in "abc" for session in (1, 2)])
    name_in_dataset(root, groups={"sub-a_ses-1": "x", "sub-b_ses-1": "x"})
    _, _, err = run(*PLAN, "--root", root)
    assert "6 cases of 4 patients" in err  # x; sub-a and sub-b with what is left of them; sub-c
    for fold in read_folds(root)["folds"]:
        assert len({"sub-a_ses-1", "sub-b_ses-1"} & set(fold["train"])) in (0, 2)


# Networks and probes


def test_a_further_network_is_planned_trained_and_remembered(run, root):
    code, out, err = run("plan", "-d", "Tiny", "--root", root, "--preset", "pocket", "--network", "dynunet")
    assert code == 0, err
    assert "3d_dynunet: dynunet" in out
    assert " GB" in out
    code, out, _ = run("plan", "-d", "Tiny", "--root", root, "--network", "segresnet")
    assert code == 0
    assert "3d_dynunet" in out and "2d_segresnet" in out
    code, _, err = run(
        "train", "-d", "Tiny", "--root", root, "-c", "3d_dynunet", "-f", "0", "--epochs", "1", "--steps-per-epoch", "1"
    )
    assert code == 0, err
    code, out, _ = run("plan", "-d", "Tiny", "--root", root, "--network", "none")
    assert code == 0
    assert "dynunet" not in out


def test_an_unknown_network_is_named_before_anything_is_measured(run, root):
    code, _, err = run("plan", "-d", "Tiny", "--root", root, "--network", "vnet")
    assert code == 2
    assert "unknown network 'vnet' (did you mean 'unet'" in err
    assert not (root / "autoseg_preprocessed").exists()


def test_a_network_that_cannot_be_is_said_and_the_others_are_planned(run, root):
    folder = root / "autoseg_raw" / "Specks"
    grid = Grid(shape=(7, 9, 6), spacing=(1.0, 1.0, 1.0))
    rng = np.random.default_rng(0)
    for number in range(3):
        voxels = rng.normal(100, 5, grid.shape).astype(np.float32)
        write_voxels(folder / "imagesTr" / f"speck{number}_0000.nii.gz", voxels, grid)
        write_voxels(folder / "labelsTr" / f"speck{number}.nii.gz", (voxels > 105).astype(np.uint8), grid)
    facts = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(facts))
    code, out, err = run("plan", "-d", "Specks", "--root", root, "--preset", "pocket", "--network", "swin_unetr")
    assert code == 0
    assert "  3d: unet" in out
    assert "3d_swin_unetr is left out: Network 'swin_unetr' needs at least 3 stages" in err


def test_a_probe_measures_what_was_predicted(run, root):
    code, out, err = run("plan", "-d", "Tiny", "--root", root, "--preset", "pocket", "--probe", "--device", "cpu")
    assert code == 0, err
    assert "a training step takes" in err
    assert "measured" in out


# Measuring


def test_a_fingerprint_of_an_older_version_is_summarised_again(run, planned):
    folder = planned / "autoseg_preprocessed" / "Tiny"
    path = folder / "fingerprint.json"
    now = json.loads(path.read_text())
    assert now["schema"] == 2
    old = {key: value for key, value in now.items() if key not in ("lesions", "frequencies", "brain_intensities")}
    write_json(path, {**old, "schema": 1})
    code, _, err = run(*PLAN, "--root", planned)
    assert code == 0
    assert "measuring" not in err
    assert json.loads(path.read_text()) == now


def kill_a_worker(stop):
    """Kill the first process that a fork server of ours starts."""
    while not stop.is_set():
        for server in psutil.Process().children():
            for worker in server.children():
                worker.kill()
                return
        time.sleep(0.002)


def test_a_worker_that_is_killed_is_named_and_the_rest_go_on(run, root):
    stop = threading.Event()
    killer = threading.Thread(target=kill_a_worker, args=(stop,))
    killer.start()
    argv = ("plan", "-d", "Tiny", "--preset", "pocket", "--workers", 2, "--root", root)
    code, _, err = run(*argv)
    stop.set()
    killer.join()
    assert code == 2
    sentence = err[err.index("autoseg_plan: error:") :]
    assert "1 of 6 cases failed while measuring; the others are done" in sentence
    assert "killed by signal 9 (SIGKILL); the machine probably ran out of memory: use fewer workers" in sentence
    code, _, err = run(*argv)
    assert code == 0
    assert "measuring 1 of 6 cases" in err


def test_workers_are_bounded_by_the_largest_case_not_by_its_file(root):
    # All but one voxel are 0: a file of a few kB that is read into many MB.
    grid = Grid(shape=(100, 100, 100), spacing=(1.0, 1.0, 1.0))
    for path in sorted((root / "autoseg_raw" / "Tiny" / "imagesTr").glob("case0_*")):
        voxels = np.zeros(grid.shape, np.float32)
        voxels[50, 50, 50] = 1
        write_voxels(path, voxels, grid)
        assert path.stat().st_size < 10_000
    dataset = open_raw(Store(root), "Tiny")
    assert measuring.bytes_per_case(dataset) > 50e6 + 100**3 * 2 * 4


def test_preprocessing_to_finer_voxels_needs_more_memory(store):
    facts = read_record(Fingerprint, store.preprocessed("Tiny") / "fingerprint.json", advice="").cases[0]
    own, finer = (
        preparing.bytes_per_case(
            facts,
            PreprocessingSettings(
                axis_order=(0, 1, 2), spacing=spacing, channels=(ChannelNormalization(),) * 2, coarse_axis_ratio=3.0
            ),
        )
        for spacing in ((2.0, 1.0, 1.0), (0.2, 0.1, 0.1))
    )
    voxels = 12 * 20 * 16
    assert own >= voxels * 2 * 4
    assert finer - own >= (999 * facts.cropped_shape[0] * facts.cropped_shape[1] * facts.cropped_shape[2]) * 2 * 4


# Looking without touching


def take_snapshot(root):
    """Every path with its size, time and content."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else sorted(path.iterdir()))
        for path in [root, *root.rglob("*")]
    }


def test_a_dry_run_before_the_first_plan_writes_nothing(run, root):
    before = take_snapshot(root)
    code, out, err = run(*PLAN, "--preset", "pocket", "--dry-run", "--explain", "--root", root)
    assert code == 0
    assert "plan.json would be new" in err
    assert "folds.json would be new" in err
    assert "Configuration 3d" in out
    assert "dry run: nothing was written or preprocessed" in out
    assert "next:" not in out
    assert take_snapshot(root) == before


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "plan.json would stay unchanged"),
        (("--compat", "nnunet"), "plan.json would change"),
        (("--fold-count", 3), "folds.json would change"),
        (("--replace", "--fold-count", 2), "folds.json would change"),
        (("--keep",), "plan.json would stay unchanged"),
    ],
)
def test_a_dry_run_after_a_plan_measures_and_writes_nothing(run, planned, argv, message):
    before = take_snapshot(planned)
    code, out, err = run(*PLAN, *argv, "--dry-run", "--root", planned)
    assert code == 0
    assert "measuring" not in err
    assert message in err
    assert "dry run" in out
    assert take_snapshot(planned) == before


def test_a_dry_run_measures_new_cases_alone(run, planned):
    path = planned / "autoseg_raw" / "Tiny" / "imagesTr" / "case3_0000.nii.gz"
    path.write_bytes(path.read_bytes())  # same voxels, another time
    before = take_snapshot(planned)
    _, _, err = run(*PLAN, "--dry-run", "--root", planned)
    assert "measuring 1 of 6 cases" in err
    assert take_snapshot(planned) == before


def test_a_dry_run_says_what_a_plan_would_refuse(run, planned):
    edited = edit_folds(planned)
    code, _, err = run(*PLAN, "--dry-run", "--root", planned)
    assert code == 2
    assert "edited by hand" in err
    assert run(*PLAN, "--dry-run", "--replace", "--root", planned)[0] == 0
    assert (planned / "autoseg_preprocessed" / "Tiny" / "folds.json").read_text() == edited


def test_the_schema_of_a_plan_needs_no_dataset(run, planned):
    code, out, err = run("plan", "--schema")
    assert (code, err) == (0, "")
    schema = json.loads(out)
    plan = read_plan(planned)
    assert set(plan) == set(schema["properties"])
    assert schema["additionalProperties"] is False
    assert {"dataset", "configurations"} <= set(schema["required"]) < set(plan)
    own = schema["properties"]["configurations"]["additionalProperties"]["$ref"].removeprefix("#/$defs/")
    assert set(plan["configurations"]["3d"]) == set(schema["$defs"][own]["properties"])
