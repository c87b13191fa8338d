"""Compatible plans against decisions that nnU-Net's own planners made, recorded by the benchmark beside them."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "planning"))

from compare_nnunet import compare, decide
from made_datasets import MadeDataset

GOLDEN = json.loads(Path(__file__).with_name("nnunet_golden.json").read_text())
DATASETS = {row["name"]: MadeDataset(**row) for row in GOLDEN["datasets"]}


@pytest.mark.parametrize("name", DATASETS)
def test_compatible_plans_are_those_of_nnunet(name):
    for row in GOLDEN["plans"]:
        if row["dataset"] != name:
            continue
        found = decide(DATASETS[name], row["preset"], row["memory_gb"])
        assert list(found) == list(row["decisions"])
        for configuration, decisions in row["decisions"].items():
            assert compare(found[configuration], decisions) == ([], "")


def test_the_recorded_decisions_cover_every_planner_and_configuration():
    assert {row["preset"] for row in GOLDEN["plans"]} == {"standard", "residual_m", "residual_l", "residual_xl"}
    assert {name for row in GOLDEN["plans"] for name in row["decisions"]} == {"2d", "3d", "3d_lowres", "3d_cascade"}
    assert len(DATASETS) >= 30
