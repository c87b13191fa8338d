"""What cannot be reproduced, is broken or would do harm is refused with one sentence, and nothing is written."""

import json
import stat
import zipfile

import numpy as np
import pytest
import torch
from transfer_models import DESCRIBED, make_checkpoint, make_network, make_plans, write_model

from autoseg.transfer import model_files


@pytest.fixture
def refused(bring, tmp_path):
    """Import, and give the message; nothing may be left behind."""

    def call(source, *options):
        code, err = bring(source, *options)
        assert code == 2, err
        assert err.count("\n") == 1
        assert not [path for path in (tmp_path / "root").rglob("*") if path.is_file()]
        return err

    return call


class Hostile:
    """A pickle of it would make a file when opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def change_arguments(**changes):
    plans = make_plans()
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"] |= changes
    return plans


def change_configuration(**changes):
    plans = make_plans()
    plans["configurations"]["3d_fullres"] |= changes
    return plans


def change_resampling(part, **changes):
    plans = make_plans()
    plans["configurations"]["3d_fullres"][f"resampling_fn_{part}_kwargs"] |= changes
    return plans


def test_a_network_of_ten_million_convolutions_is_not_built(refused, tmp_path):
    source = write_model(tmp_path / "foreign")
    (source / "plans.json").write_text(json.dumps(change_arguments(n_conv_per_stage=10**7)))
    assert "n_conv_per_stage" in refused(source)


TORCH_RESAMPLING = {"resampling_fn_data": "resample_torch_fornnunet"}


@pytest.mark.parametrize(
    ("plans", "clause"),
    [
        (
            change_arguments(dropout_op="torch.nn.Dropout3d"),
            "arch_kwargs.dropout_op' 'torch.nn.Dropout3d'",
        ),
        (change_arguments(norm_op="torch.nn.BatchNorm3d"), "arch_kwargs.norm_op' 'torch.nn.BatchNorm3d'"),
        (change_arguments(norm_op_kwargs={"eps": 1e-3, "affine": True}), "norm_op_kwargs.eps' '0.001'"),
        (change_arguments(nonlin="torch.nn.ReLU"), "arch_kwargs.nonlin' 'torch.nn.ReLU'"),
        (change_arguments(nonlin_kwargs={"negative_slope": 0.2}), "nonlin_kwargs.negative_slope' '0.2'"),
        (change_arguments(conv_bias=False), "arch_kwargs.conv_bias' 'False'"),
        (
            change_arguments(squeeze_excitation=True),
            "arch_kwargs.squeeze_excitation', which autoseg cannot",
        ),
        (change_arguments(conv_op="torch.nn.modules.conv.Conv2d"), "layers that do not fit a patch of 3 axes"),
        (change_arguments(n_blocks_per_stage=[1, 1]), "blocks per stage that unet does not have"),
        (change_configuration(**TORCH_RESAMPLING), "'resampling_fn_data' 'resample_torch_fornnunet'"),
        (change_configuration(preprocessor_name="MyPreprocessor"), "'preprocessor_name' 'MyPreprocessor'"),
        (change_configuration(previous_stage="3d_lowres"), "is a cascade on 3d_lowres, but"),
        (change_configuration(normalization_schemes=["A", "B"]), "normalisation A, which autoseg does not support"),
        (change_configuration(use_mask_for_norm=[True]), "normalises 2 channels"),
        (change_resampling("data", order_z=1), "'resampling_fn_data_kwargs.order_z' '1'"),
        (change_resampling("seg", force_separate_z=False), "resamples images, labels and probabilities differently"),
        (change_resampling("probabilities", order=3), "'configurations.3d.preprocessing.probability_order'"),
        ({**make_plans(), "image_reader_writer": "Tiff3DIO"}, "'image_reader_writer' 'Tiff3DIO'"),
        ({**make_plans(), "label_manager": "MyLabels"}, "'label_manager' 'MyLabels'"),
        ({**make_plans(), "foreground_intensity_properties_per_channel": {}}, "intensities of channel 1 (CT)"),
        (change_configuration(patch_size=[4, 15, 12]), "patch_size (4, 15, 12) must be multiples of (1, 2, 2)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_plans_that_we_cannot_reproduce(tmp_path, refused, plans, clause):
    home = write_model(tmp_path)
    (home / "plans.json").write_text(json.dumps(plans))
    assert clause in refused(home)


def test_an_unknown_network(tmp_path, refused):
    plans = make_plans()
    plans["configurations"]["3d_fullres"]["architecture"]["network_class_name"] = "os.system"
    home = write_model(tmp_path)
    (home / "plans.json").write_text(json.dumps(plans))
    assert "has the network os.system, which autoseg does not support; supported: PlainConvUNet" in refused(home)


def test_a_cascade_of_regions(tmp_path, refused):
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    described = {**DESCRIBED, "labels": labels, "regions_class_order": [1, 2, 3]}
    full = make_plans()["configurations"]["3d_fullres"]
    for name, changes in (("3d_lowres", {}), ("3d_cascade_fullres", {"previous_stage": "3d_lowres"})):
        plans = {**make_plans(), "configurations": {name: {**full, **changes}}}
        home = write_model(tmp_path, plans, described=described)
    assert "is a cascade of overlapping regions" in refused(home.parent)


def test_a_trainer_that_nobody_here_knows(tmp_path, refused, bring):
    home = write_model(tmp_path, trainer_name="MyTrainer")
    assert "was trained with MyTrainer, whose code may have changed network" in refused(home)
    assert bring(home, "--any-trainer")[0] == 0


@pytest.mark.parametrize("where", ["network_weights", "logging", "init_args", "more"])
def test_a_checkpoint_that_would_run_code_is_not_opened(tmp_path, refused, where):
    victim = tmp_path / "victim"
    home = write_model(tmp_path, **{where: {"x": Hostile(victim)}})
    assert "holds more than weights and numbers (io.open), which could run code" in refused(home)
    assert not victim.exists()


def test_a_checkpoint_of_another_program(tmp_path, refused):
    home = write_model(tmp_path)
    torch.save({"state_dict": {}}, home / "fold_0" / "checkpoint_final.pth")
    assert "has no 'network_weights'; it is not a checkpoint of nnU-Net v2" in refused(home)


def test_a_truncated_checkpoint(tmp_path, refused):
    path = write_model(tmp_path) / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:-3000])
    assert f"{path} is not a torch checkpoint, or is truncated; copy it again" in refused(path.parents[1])


def test_a_checkpoint_that_grows_when_opened(tmp_path, refused):
    path = write_model(tmp_path) / "fold_0" / "checkpoint_final.pth"
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    assert "grows when opened, as no file of torch does; it is not opened" in refused(path.parents[1])


def test_weights_of_another_network(tmp_path, refused):
    home = write_model(tmp_path)
    path = home / "fold_0" / "checkpoint_final.pth"
    weights = make_network(make_plans()).state_dict()
    name = "encoder.stages.0.0.convs.0.all_modules.0.weight"
    # Without the second names of a tensor, which would differ from it.
    bare = {k: v for k, v in weights.items() if ".conv." not in k and not k.startswith("decoder.encoder.")}
    cases = [
        (
            {k: v for k, v in weights.items() if k != name},
            f"lacks 1 tensors ({name}), so its trainer changed",
        ),
        ({**weights, "extra.weight": torch.ones(1)}, "has, beyond the network in its plans, 1 tensors (extra.weight)"),
        ({**weights, name.replace("all_modules.0", "conv"): torch.zeros(1)}, "convs.0.conv.weight)"),
        ({**bare, name: weights[name] * np.nan}, f"has values in {name} that are NaN or infinite"),
        (make_network(make_plans(), outputs=5).state_dict(), "; copy the whole model again"),
    ]
    for changed, clause in cases:
        torch.save(make_checkpoint(make_plans(), make_network(make_plans()), network_weights=changed), path)
        assert clause in refused(home)


def test_folds_that_were_trained_otherwise(tmp_path, refused):
    home = write_model(tmp_path, folds=(0, 1))
    other = make_checkpoint(make_plans(), make_network(make_plans()), inference_allowed_mirroring_axes=(0,))
    torch.save(other, home / "fold_1" / "checkpoint_final.pth")
    assert "was trained differently from the previous folds" in refused(home)


def test_a_checkpoint_in_the_wrong_folder(tmp_path, refused):
    plans = make_plans()
    home = write_model(tmp_path, plans)
    plans["configurations"] |= make_plans(2)["configurations"]
    (home / "plans.json").write_text(json.dumps(plans))
    home = home.rename(home.with_name("nnUNetTrainer__nnUNetPlans__2d"))
    assert "is of configuration 3d_fullres, but its folder is that of 2d; move it to its own folder" in refused(home)


def test_what_is_missing_is_named(tmp_path, refused):
    home = write_model(tmp_path)
    (home / "dataset.json").rename(tmp_path / "kept.json")
    assert f"{home} lacks dataset.json; copy the whole model again" in refused(home)
    (tmp_path / "kept.json").rename(home / "dataset.json")
    (home / "fold_0" / "checkpoint_final.pth").unlink()
    assert f"{home} has no fold_*/checkpoint_final.pth" in refused(home)


def test_a_broken_or_strange_dataset_json(tmp_path, refused):
    home = write_model(tmp_path)
    for content, clause in [
        ("{", "dataset.json is not JSON"),
        ("[1]", "dataset.json must hold a JSON object, not a list"),
        (json.dumps({"channel_names": DESCRIBED["channel_names"]}), "dataset.json lacks 'labels'"),
        (json.dumps({**DESCRIBED, "labels": {"lesion": 1}}), '"labels" must hold "background": 0'),
    ]:
        (home / "dataset.json").write_text(content)
        assert clause in refused(home)


def test_no_model_at_all(tmp_path, refused):
    (tmp_path / "empty").mkdir()
    assert "holds no model of nnU-Net v2" in refused(tmp_path / "empty")
    assert "does not exist; give the folder or the exported zip of an nnU-Net model" in refused(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("hello")
    assert "is neither a folder nor a zip file" in refused(tmp_path / "notes.txt")


def test_two_models_of_one_configuration(tmp_path, refused):
    home = write_model(tmp_path)
    home.rename(home.with_name("nnUNetTrainer__otherPlans__3d_fullres"))
    home = write_model(tmp_path)
    assert "holds 2 models of 3d_fullres" in refused(home.parent)


@pytest.mark.parametrize("name", ["../../evil.txt", "/etc/evil", "C:/evil", "a\\..\\evil", "a/../../evil"])
def test_a_zip_that_leads_out_of_its_folder(tmp_path, refused, pack, name):
    archive = pack(write_model(tmp_path).parent, (name, "x"))
    assert f"holds the path '{name}', which leads outside; it is not opened" in refused(archive)


def test_a_zip_with_a_link(tmp_path, refused, pack):
    link = zipfile.ZipInfo("fold_0/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert "holds the link 'fold_0/link'" in refused(pack(write_model(tmp_path).parent, (link, "/etc/passwd")))


def test_a_zip_that_is_a_bomb(tmp_path, refused, pack):
    home = write_model(tmp_path)
    (home / "fold_0" / "checkpoint_final.pth").write_bytes(bytes(10_000_000))
    assert "to 10000000 bytes when unpacked, as weights never do; it is not opened" in refused(pack(home.parent))


def test_files_that_are_too_large_or_too_many(tmp_path, refused, pack, monkeypatch):
    home = write_model(tmp_path)
    archive = pack(home.parent)
    monkeypatch.setattr(model_files, "MOST_ENTRIES", 2)
    assert "holds 3 files, too many for an exported model" in refused(archive)
    monkeypatch.setattr(model_files, "MOST_TEXT_BYTES", 1000)
    assert "has 0 MB, more than 0 MB; it is not opened" in refused(home)


def test_a_zip_that_holds_a_file_twice_or_is_damaged(tmp_path, refused, pack):
    home = write_model(tmp_path)
    name = f"{home.name}/plans.json"
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive = pack(home.parent, (name, "{}"))
    assert f"holds {name} twice" in refused(archive)
    archive = pack(home.parent)
    content = bytearray(archive.read_bytes())
    content[200:400] = bytes(200)
    archive.write_bytes(bytes(content))
    assert "is damaged" in refused(archive)
