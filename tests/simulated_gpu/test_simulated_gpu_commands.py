"""Commands on a simulated card: every way of training, and prediction, with the CPU's results."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from autoseg.core.images import read_voxels, write_voxels
from autoseg.core.store import Store
from autoseg.folds.files import read_checkpoint, read_history
from autoseg.folds.training import train
from autoseg.options import TrainOptions
from autoseg.prediction import sliding

LENGTH = ("--epochs", "2", "--steps-per-epoch", "2")
ENGINES = ("cpu", "gpu", "auto")


def plan_of(root):
    return root / "autoseg_preprocessed" / "Tiny" / "plan.json"


def edit(root, name="3d", **changes):
    """Change a configuration of the plan: ``training={"precision": ...}``."""
    plan = json.loads(plan_of(root).read_text())
    for record, values in changes.items():
        plan["configurations"][name][record] |= values
    plan_of(root).write_text(json.dumps(plan))


def fold_of(root, name="3d", fold="0"):
    return root / "autoseg_results" / "Tiny" / name / f"fold_{fold}"


def losses(root, name="3d"):
    return [row["train_loss"] for row in read_history(fold_of(root, name))]


def weights(root, name="3d"):
    return load_file(fold_of(root, name) / "model.safetensors")


def mask_of(path):
    return read_voxels(path)[0]


@pytest.fixture
def smaller(planned):
    """The planned root with narrow networks and no mirroring: seconds matter here."""
    plan = json.loads(plan_of(planned).read_text())
    for configuration in plan["configurations"].values():
        configuration["tiling"]["mirror_axes"] = []
        configuration["network"]["features"] = [4 for _ in configuration["network"]["features"]]
    plan_of(planned).write_text(json.dumps(plan))
    return planned


@pytest.fixture
def done(run):
    """Run a command that must succeed; gives what it printed for the user."""

    def call(*argv):
        code, _, err = run(*argv)
        assert code == 0, err
        return err

    return call


@pytest.fixture(scope="module")
def on_cpu(planned_template, tmp_path_factory):
    """Losses and weights of 3d and 2d on the CPU."""
    root = tmp_path_factory.mktemp("cpu") / "root"
    shutil.copytree(planned_template, root)
    plan = json.loads(plan_of(root).read_text())
    for configuration in plan["configurations"].values():
        configuration["tiling"]["mirror_axes"] = []
        configuration["network"]["features"] = [4 for _ in configuration["network"]["features"]]
    plan_of(root).write_text(json.dumps(plan))
    for name in ("3d", "2d"):
        train(Store(root), TrainOptions(dataset="Tiny", configuration=name, fold="0", epochs=2, steps_per_epoch=2))
    return {name: (losses(root, name), weights(root, name)) for name in ("3d", "2d")}


@pytest.mark.parametrize("name", ["3d", "2d"])
def test_batches_of_cpu_threads_train_a_card_as_they_train_a_cpu(machine, smaller, done, on_cpu, name):
    edit(smaller, name, augmentation={"device": "cpu"})
    cards = machine(8)
    err = done("train", "-d", "Tiny", "-c", name, "-f", "0", *LENGTH, "--root", smaller)
    assert "on Simulated GPU 0" in err
    assert cards.operations[0] > 1000
    on_card = losses(smaller, name), weights(smaller, name)
    assert on_card[0] == pytest.approx(on_cpu[name][0], rel=1e-4)
    for ours, theirs in zip(on_card[1].values(), on_cpu[name][1].values(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-3)  # Adam makes whole steps of rounded-off gradients


@pytest.mark.parametrize(
    ("gigabytes", "told"),
    [(8, "5 training cases (0.00 GB) to the GPU"), (0.45, "5 training cases (0.00 GB) are not copied to the GPU")],
)
def test_the_card_makes_the_batches_with_and_without_the_data_on_it(machine, smaller, done, gigabytes, told):
    edit(smaller, augmentation={"device": "gpu"})
    machine(gigabytes)
    err = done("train", "-d", "Tiny", "-c", "3d", "-f", "0", *LENGTH, "--root", smaller)
    assert told in err
    assert all(np.isfinite(losses(smaller)))


def test_auto_times_both_engines_and_says_which_it_took(machine, smaller, done):
    edit(smaller, "2d", augmentation={"device": "auto"})
    machine(8)
    err = done("train", "-d", "Tiny", "-c", "2d", "-f", "0", *LENGTH, "--root", smaller)
    assert "augmentation.device auto: " in err


@pytest.mark.parametrize(("bfloat16", "half"), [(True, "bfloat16"), (False, "float16")])
def test_mixed_precision(machine, smaller, done, bfloat16, half):
    edit(smaller, "2d", training={"precision": "auto"}, augmentation={"device": "cpu"})
    machine(8, bfloat16=bfloat16, half=True)
    done("train", "-d", "Tiny", "-c", "2d", "-f", "0", *LENGTH, "--root", smaller)
    assert all(np.isfinite(losses(smaller, "2d")))
    assert {weight.dtype for weight in weights(smaller, "2d").values()} == {np.dtype(np.float32)}
    scaler = read_checkpoint(fold_of(smaller, "2d"))["scaler"]
    assert bool(scaler) == (half == "float16")  # float16 alone scales its gradients


def test_a_training_moves_between_card_and_cpu(machine, smaller, on_cpu):
    edit(smaller, augmentation={"device": "auto"}, training={"ema_decay": 0.99})
    options = TrainOptions(dataset="Tiny", configuration="3d", fold="0", epochs=2, steps_per_epoch=2)

    def take(steps, **changes):
        """Train so many steps further."""
        asked = iter(range(1, 100))
        train(
            Store(smaller),
            TrainOptions(**{**vars(options), **changes}),
            should_stop=lambda: next(asked) >= steps,
        )
        return read_checkpoint(fold_of(smaller))["step"]

    machine(8)
    assert take(1, device="cuda") == 1
    saved = read_checkpoint(fold_of(smaller))
    assert all(tensor.device.type == "cpu" for tensor in saved["network"].values())
    assert take(1, device="cpu") == 2
    assert take(100, device="cuda") == 4
    assert all(np.isfinite(losses(smaller)))


def test_a_cascade(machine, smaller, done):
    plan = json.loads(plan_of(smaller).read_text())
    low, fed = (json.loads(json.dumps(plan["configurations"]["3d"])) for _ in range(2))
    low["preprocessing"]["spacing"] = [2, 2, 2]
    fed["cascade_from"] = "3d_lowres"
    fed["augmentation"] |= {"mask_shape_probability": 0.4, "mask_shape_radius": [1, 2], "device": "gpu"}
    plan["configurations"] |= {"3d_lowres": low, "3d_cascade": fed}
    plan_of(smaller).write_text(json.dumps(plan))
    folds = plan_of(smaller).with_name("folds.json")
    halves = [[f"case{number}" for number in half] for half in ((0, 2, 4), (1, 3, 5))]
    made = [{"train": halves[1 - k], "validation": halves[k]} for k in (0, 1)]
    folds.write_text(json.dumps(json.loads(folds.read_text()) | {"folds": made}))
    done("plan", "-d", "Tiny", "--root", smaller, "--keep", "--workers", 1)
    machine(8)
    for fold in ("0", "1"):
        done("train", "-d", "Tiny", "-c", "3d_lowres", "-f", fold, *LENGTH, "--root", smaller)
        for path in (fold_of(smaller, "3d_lowres", fold) / "validation").glob("*.nii.gz"):
            label, grid = read_voxels(smaller / "autoseg_raw" / "Tiny" / "labelsTr" / path.name)
            write_voxels(path, label, grid)  # two steps teach nothing: give the masks something to tell
    done("train", "-d", "Tiny", "-c", "3d_cascade", "-f", "0", *LENGTH, "--root", smaller)
    scans = smaller / "scans"
    scans.mkdir()
    for path in (smaller / "autoseg_raw" / "Tiny" / "imagesTr").glob("case0_*"):
        shutil.copy(path, scans)
    done("predict", "-d", "Tiny", "-c", "3d_cascade", "-i", scans, "-o", smaller / "masks", "--root", smaller)
    assert mask_of(smaller / "masks" / "case0.nii.gz").shape == (12, 20, 16)


def test_transfer_with_frozen_parts(machine, trained, done):
    machine(8)
    done("plan", "-d", "Tiny", "--root", trained, "--pretrained", "Tiny/3d", "--mode", "gradual")
    one = ("-c", "3d_transfer", "-f", "0", *LENGTH)
    err = done("train", "-d", "Tiny", *one, "--root", trained)
    assert "training the encoder from here on" in err


def test_pretraining(machine, smaller, done):
    machine(8)
    err = done("pretrain", "-d", "Tiny", *LENGTH, "--root", smaller)
    assert "Simulated GPU 0" in err
    learned = load_file(smaller / "autoseg_pretrained" / "Tiny" / "3d" / "fold_all" / "model.safetensors")
    assert all(np.isfinite(weight).all() for weight in learned.values())


def predict(done, root, out, *options):
    """Masks of two cases."""
    scans = root / "scans"
    if not scans.exists():
        scans.mkdir()
        for path in (root / "autoseg_raw" / "Tiny" / "imagesTr").glob("case[04]_*"):
            shutil.copy(path, scans)
    done("predict", "-d", "Tiny", "-c", "3d", "-i", scans, "-o", root / out, "--root", root, *options)
    return [mask_of(path) for path in sorted((root / out).glob("*.nii.gz"))]


def test_masks_are_the_cpus_whether_their_sums_fit_on_the_card_or_not(machine, trained, done, monkeypatch):
    usual = predict(done, trained, "cpu", "--device", "cpu", "--mirror")
    calls, real = [], sliding.choose_sum_device

    def spy(needed, device, free, reserve):
        chosen = real(needed, device, free, reserve)
        calls.append((chosen.type, free["cuda"], reserve))
        return chosen

    monkeypatch.setattr(sliding, "choose_sum_device", spy)
    card = machine(8).cards[0]
    on_card = predict(done, trained, "gpu", "--mirror")
    assert {place for place, *_ in calls} == {"cuda"}
    _, free, reserve = calls[0]
    calls.clear()
    card.others = free - int(1.2 * reserve)  # room for the networks and one tile
    torch.cuda.empty_cache()
    beside = predict(done, trained, "scarce", "--mirror")
    assert {place for place, *_ in calls} == {"cpu"}
    for masks in (on_card, beside):
        assert len(masks) == 2
        assert all(np.array_equal(mask, same) for mask, same in zip(masks, usual, strict=True))


def test_a_card_that_does_not_hold_the_networks_is_one_sentence(machine, trained, run):
    predict_one = ("predict", "-d", "Tiny", "-c", "3d", "-i", trained / "autoseg_raw" / "Tiny" / "imagesTr")
    machine(0.0002)
    code, _, err = run(*predict_one, "-o", trained / "masks", "--root", trained)
    assert code == 2
    assert "Simulated GPU 0 has too little free memory for the networks of 3d; use --device cpu" in err


def test_a_card_that_holds_the_networks_but_no_tile_is_one_sentence(machine, trained, run, monkeypatch):
    predict_one = ("predict", "-d", "Tiny", "-c", "3d", "-i", trained / "autoseg_raw" / "Tiny" / "imagesTr")
    card = machine(8).cards[0]
    real = sliding._Calls.__init__

    def crowded(calls, *arguments):
        card.others = card.total - card.allocated - 10_000
        real(calls, *arguments)

    monkeypatch.setattr(sliding._Calls, "__init__", crowded)
    code, _, err = run(*predict_one, "-o", trained / "masks", "--root", trained)
    assert code == 2
    assert "cuda has too little free memory for a tile of 12x20x16 voxels" in err
    assert "--device cpu" in err
