"""Every recipe trains, predicts and is scored as planned, but for patch, batch and encoder, which are made small."""

import json
import shutil

import numpy as np
import pytest

from autoseg.cli import plan
from autoseg.core.images import read_voxels, write_voxels
from autoseg.core.records import Configuration, Plan
from autoseg.core.store import read_record, write_record
from autoseg.networks import encoder_weights, fit_settings
from autoseg.planning.recipes import recipe_names

PATCH = {2: (64, 64), 3: (16, 32, 32)}
ENCODERS = {
    "resnet50": "resnet18",
    "resnet101": "resnet18",
    "resnext50_32x4d": "resnet18",
    "efficientnet-b7": "efficientnet-b0",
}


@pytest.fixture(scope="module")
def template(planned_template, tmp_path_factory):
    """``Tiny``, and ``Tumour`` with three classes in regions that overlap, both planned with every recipe."""
    folder = tmp_path_factory.mktemp("recipes")
    tumour = folder / "autoseg_raw" / "Tumour"
    for copy in (tumour, tumour.with_name("Tiny")):
        shutil.copytree(planned_template / "autoseg_raw" / "Tiny", copy)
    for path in sorted((tumour / "labelsTr").iterdir()):
        mask, grid = read_voxels(path)
        depth = np.cumsum(mask.any((1, 2)))[:, None, None]
        write_voxels(path, (mask * np.minimum(depth, 3)).astype(np.uint8), grid)
    facts = json.loads((tumour / "dataset.json").read_text())
    facts["labels"] = {"background": 0, "whole": [1, 2, 3], "core": [1, 3], "active": 3}
    facts["regions_class_order"] = [2, 1, 3]
    (tumour / "dataset.json").write_text(json.dumps(facts))
    for name in ("Tiny", "Tumour"):
        with pytest.raises(SystemExit) as stop, pytest.MonkeyPatch.context() as patch:
            patch.setattr(encoder_weights, "weights_at_hand", lambda encoder: False)  # no stand-ins
            plan(["-d", name, "--root", str(folder), "--preset", "pocket", "-q", "--recipe", *recipe_names()])
        assert stop.value.code == 0
        path = folder / "autoseg_preprocessed" / name / "plan.json"
        made = read_record(Plan, path, advice="")
        small = {key: shrink(it) if key in recipe_names() else it for key, it in made.configurations.items()}
        write_record(path, made.model_copy(update={"configurations": small}))
    return folder


def shrink(made: Configuration) -> Configuration:
    size = PATCH[made.dimensions]
    options = {key: value for key, value in made.network.options.items() if key != "weights"}  # a test fetches nothing
    if "encoder" in options:
        options["encoder"] = ENCODERS.get(options["encoder"], options["encoder"])
    network = made.network.model_copy(update={"options": options})
    return made.model_copy(
        update={
            "patch_size": size,
            "tiling": made.tiling.model_copy(update={"tile_size": size}),
            "batch_size": 2,
            "network": fit_settings(network, dimensions=made.dimensions, patch=size),
        }
    )


@pytest.mark.parametrize("recipe", recipe_names())
def test_a_recipe_trains_predicts_and_is_scored(recipe, template, run, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(template, root)
    dataset = "Tumour" if recipe.startswith("s3") else "Tiny"
    asked = ("-d", dataset, "-c", recipe, "-f", "0", "--root", root, "--device", "cpu")
    code, _, err = run("train", *asked, "--epochs", "1", "--steps-per-epoch", "2")
    assert code == 0, err
    fold = root / "autoseg_results" / dataset / recipe / "fold_0"
    assert json.loads((fold / "fold.json").read_text())["steps"] == 2
    scores = json.loads((fold / "scores.json").read_text())
    held_out = json.loads((root / "autoseg_preprocessed" / dataset / "folds.json").read_text())["folds"][0][
        "validation"
    ]
    assert sorted(case["case"] for case in scores["cases"]) == sorted(held_out)
    reported = set(json.loads((fold.parent / "plan.json").read_text())["configurations"][recipe]["scoring"]["metrics"])
    assert reported and reported <= set(scores["conventions"])
    values, _ = read_voxels(next((fold / "validation").glob("*.nii.gz")))
    assert set(np.unique(values)) <= ({0, 1, 2, 3} if dataset == "Tumour" else {0, 1})
    shutil.rmtree(root)  # a recipe's weights and checkpoint take up to 300 MB
