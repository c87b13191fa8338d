from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from autoseg.core.errors import PlanError
from autoseg.core.records import Fold, Folds, Grid, Outputs, parse_record, render_record
from autoseg.core.records.base import JsonError, parse_json

FOLDS = '{"schema": 1, "seed": 1, "folds": [{"train": ["a"], "validation": ["b"]}]}'


def parse(text):
    return parse_record(Folds, text, path=Path("folds.json"), advice="make it anew")


def test_a_record_survives_the_disk():
    folds = parse(FOLDS)
    assert parse(render_record(folds)) == folds


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ('"seeed": 1', r"unknown key 'seeed' \(did you mean 'seed'\? choose from: schema, seed, made_by, folds\)"),
        ('"seed": "x"', "'seed': input should be a valid integer"),
    ],
)
def test_a_wrong_key_is_named(wrong, message):
    with pytest.raises(PlanError, match=message):
        parse(FOLDS.replace('"seed": 1', wrong))


def test_a_missing_key_is_named():
    with pytest.raises(PlanError, match="missing key 'seed'"):
        parse(FOLDS.replace('"seed": 1, ', ""))


def test_a_nested_unknown_key_lists_its_own_siblings():
    with pytest.raises(PlanError, match=r"'folds.0.trian' \(did you mean 'train'\? choose from: train, validation\)"):
        parse(FOLDS.replace('"train"', '"trian"'))


def test_another_schema_is_said_first():
    with pytest.raises(PlanError, match="has schema 7, but this version of autoseg reads 1; make it anew"):
        parse(FOLDS.replace('"schema": 1', '"schema": 7'))


def test_not_json():
    with pytest.raises(PlanError, match="not JSON"):
        parse("{")


def test_a_case_cannot_be_on_both_sides_of_a_fold():
    with pytest.raises(PlanError, match="fold 0 trains on and validates b"):
        parse(FOLDS.replace('["a"]', '["a", "b"]'))


def test_grids_that_differ_by_a_flip_do_not_match():
    grid = Grid(shape=(2, 3, 4), spacing=(1, 1, 1))
    flipped = grid.model_copy(update={"direction": ((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))})
    assert grid.matches(grid)
    assert not grid.matches(flipped)


def test_a_grid_without_extent_is_refused():
    with pytest.raises(ValidationError, match="must be positive"):
        Grid(shape=(0, 1, 1), spacing=(1, 1, 1))


def test_world_coordinates_by_hand():
    grid = Grid(shape=(2, 3, 4), spacing=(5, 2, 1), origin=(10, 20, 30))
    assert np.array_equal(grid.to_world(np.array([1, 2, 3])), [13, 24, 35])
    assert grid.voxel_volume_ml == pytest.approx(0.01)


def test_brats_regions_are_painted_in_order():
    outputs = Outputs.of({}, {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}, None)
    assert outputs.values == (1, 2, 3)
    assert outputs.overlap


def test_a_region_without_a_value_of_its_own_is_refused():
    with pytest.raises(ValueError, match="region 'a'"):
        Outputs.of({}, {"a": (1,), "b": (1, 2)}, None)


def test_the_ignore_label_is_no_output():
    outputs = Outputs.of({"background": 0, "lesion": 1, "ignore": 2}, {}, 2)
    assert outputs.names == ("background", "lesion")


def test_a_byte_order_mark_is_no_error():
    text = '{"train": ["a"], "validation": []}'
    for content in (text, b"\xef\xbb\xbf" + text.encode()):
        assert parse_record(Fold, content, path=Path("f"), advice="x").train == ("a",)
    assert parse_json(b"\xef\xbb\xbf{}") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"train": ["a"], "train": ["b"], "validation": []}', "key 'train' is there twice; keep one"),
        ("[" * 200_000, "not JSON"),
        ('{"schema": ' * 200_000, "not JSON"),
    ],
)
def test_json_that_no_program_writes(text, message):
    with pytest.raises(PlanError, match=message):
        parse_record(Folds if "schema" in text else Fold, text, path=Path("f"), advice="x")


@pytest.mark.parametrize(("text", "message"), [("[" * 200_000, "nested too deeply"), ("[NaN]", "NaN is not a number")])
def test_foreign_json_that_cannot_be_read(text, message):
    with pytest.raises(JsonError, match=message):
        parse_json(text)


def test_foreign_json_is_not_parsed_without_end():
    with pytest.raises(JsonError, match="1 MB are more than such a file holds"):
        parse_json(b"[" + b"{}," * 400_000 + b"{}]", max_bytes=2**20)
