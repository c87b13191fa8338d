"""Compares our plans under ``compat="nnunet"`` with those of nnU-Net's own planners, field by field.

Run from the root of the repository, once the peer has its own environment:

    python3.11 -m venv .venv-nnunet && .venv-nnunet/bin/pip install -c constraints.txt nnunetv2==2.8.1
    .venv/bin/python benchmarks/planning/compare_nnunet.py

Prints every difference, and those that have an explanation with it. Exit code 0 when none is unexplained.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, fields
from itertools import cycle
from pathlib import Path
from typing import Any

from made_datasets import MadeDataset, describe_fingerprint, describe_for_nnunet, make_datasets, make_random_datasets

from autoseg.core.errors import AutosegError
from autoseg.core.records import Configuration
from autoseg.planning import make_plan
from autoseg.planning.presets import NNUNET_PLANNERS, PRESETS

ROOT = Path(__file__).parents[2]
PEER = ROOT / ".venv-nnunet" / "bin" / "python"
OTHER_GB = (4, 6, 11, 12, 16, 20, 24, 32, 40, 80)
RUNS = 6  # of each dataset
STAGE_FIELDS = {"patch_size", "batch_size", "strides", "kernels", "features", "encoder_blocks", "decoder_blocks"}
DEFAULTS = {field.name: field.default for field in fields(MadeDataset)}
NETWORKS = {"unet": "PlainConvUNet", "residual_unet": "ResidualEncoderUNet"}

Run = tuple[MadeDataset, str, float]
Decisions = dict[str, Any]


def main() -> int:
    """Plan with both, compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, default=PEER, help="a Python that has nnunetv2")
    parser.add_argument("--random", type=int, metavar="N", help="N random datasets instead of the made ones")
    parser.add_argument("--seed", type=int, default=1, help="of the random datasets")
    parser.add_argument("--write-golden", type=Path, metavar="FILE", help="keep nnU-Net's decisions for the test suite")
    args = parser.parse_args()
    if not args.peer.exists():
        parser.error(f"{args.peer} does not exist; make it with the commands in: {Path(__file__).name} --help")
    runs = _list_runs(make_random_datasets(args.random, args.seed) if args.random else make_datasets())
    answer = _ask_nnunet(args.peer, runs)
    began = time.perf_counter()
    ours = [decide(*run) for run in runs]
    spent = time.perf_counter() - began
    unexplained = _print_differences(runs, ours, answer["decisions"])
    configurations = sum(len(decisions) for decisions in ours)
    print(
        f"{len(runs)} plans with {configurations} configurations against nnunetv2 {answer['version']}: "
        f"{unexplained} differ without explanation; ours took {1000 * spent / len(runs):.0f} ms each"
    )
    if args.write_golden and not unexplained:
        _write_golden(args.write_golden, runs, answer)
    return 1 if unexplained else 0


def _list_runs(datasets: list[MadeDataset]) -> list[Run]:
    """Every dataset with each planner at its own memory, and with two of them at another."""
    runs: list[Run] = []
    other, preset = cycle(OTHER_GB), cycle(list(NNUNET_PLANNERS)[1:])
    for dataset in datasets:
        runs += [(dataset, name, PRESETS[name].reference_gb) for name in NNUNET_PLANNERS]
        runs += [(dataset, "standard", next(other)), (dataset, next(preset), next(other))]
    return runs


def _ask_nnunet(peer: Path, runs: list[Run]) -> Decisions:
    described = [
        {"dataset": describe_for_nnunet(dataset), "planner": NNUNET_PLANNERS[preset], "memory_gb": memory_gb}
        for dataset, preset, memory_gb in runs
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "runs.json").write_text(json.dumps(described))
        places = {f"nnUNet_{what}": str(folder / what) for what in ("raw", "preprocessed", "results")}
        command = [str(peer), str(Path(__file__).with_name("nnunet_peer.py")), str(folder)]
        subprocess.run(command, check=True, env={**os.environ, **places})
        answer: Decisions = json.loads((folder / "decisions.json").read_text())
    return answer


def decide(dataset: MadeDataset, preset: str, memory_gb: float) -> Decisions:
    """Our decisions per configuration, or the error."""
    try:
        plan = make_plan(describe_fingerprint(dataset), preset=preset, memory_gb=memory_gb, compat="nnunet")
    except AutosegError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {name: decisions_of(configuration) for name, configuration in plan.configurations.items()}


def decisions_of(configuration: Configuration) -> Decisions:
    """What both planners decide, in plain lists."""
    preprocessing, network = configuration.preprocessing, configuration.network
    spacing = [s for s in preprocessing.spacing if s is not None]
    made = {
        "axis_order": preprocessing.axis_order,
        "spacing": spacing,
        "patch_size": configuration.patch_size,
        "batch_size": configuration.batch_size,
        "network": NETWORKS[network.name],
        "strides": network.strides,
        "kernels": network.kernels,
        "features": network.features,
        "encoder_blocks": network.encoder_blocks,
        "decoder_blocks": network.decoder_blocks,
        "normalization": [channel.scheme for channel in preprocessing.channels],
        "inside_mask": [channel.inside_mask for channel in preprocessing.channels],
        "image_order": preprocessing.image_order,
        "label_order": preprocessing.label_order,
        "probability_order": preprocessing.probability_order,
        "batch_dice": bool(configuration.loss.options.get("batch_dice")),
        "cascade_from": configuration.cascade_from,
    }
    return json.loads(json.dumps(made))


def _print_differences(runs: list[Run], ours: list[Decisions], theirs: list[Decisions]) -> int:
    """Every difference, one line each; returns the number of plans that differ without explanation."""
    unexplained, reasons = 0, Counter[str]()
    for (dataset, preset, memory_gb), own, other in zip(runs, ours, theirs, strict=True):
        found = False
        for name in dict.fromkeys([*own, *other]):
            lines, why = compare(own.get(name), other.get(name))
            for line in lines:
                print(f"{dataset.name}, {preset}, {memory_gb:g} GB, {name}: {line}{f' ({why})' if why else ''}")
            found = found or bool(lines and not why)
            reasons[why] += bool(lines and why)
        unexplained += found
    for why, count in reasons.items():
        if why:
            print(f"explained in {count} configurations: {why}")
    return unexplained


def compare(own: Any, other: Any) -> tuple[list[str], str]:
    """The fields in which two configurations differ, and why that is right, if it is."""
    if own == other:
        return [], ""
    if not (isinstance(own, dict) and isinstance(other, dict)):
        return [f"ours {_brief(own)}, theirs {_brief(other)}"], ""
    lines = [f"{key}: ours {own[key]}, theirs {other[key]}" for key in own if own[key] != other[key]]
    differing = {key for key in own if own[key] != other[key]}
    if has_one_stage(other) and differing <= STAGE_FIELDS:
        return lines, "their network has one stage and so no output layer, and cannot be trained; ours has two"
    return lines, ""


def has_one_stage(decisions: Decisions) -> bool:
    """Whether a network never halves its input, as nnU-Net plans it for scans of a few voxels."""
    return len(decisions["features"]) == 1


def _brief(decisions: Any) -> Any:
    return f"patch {decisions['patch_size']}" if isinstance(decisions, dict) else decisions


def _write_golden(path: Path, runs: list[Run], answer: Decisions) -> None:
    """Every dataset with the plain planner at 8 GB and with one other run; what needs explaining is left out."""
    datasets: dict[str, str] = {}
    plans = []
    for number, ((dataset, preset, memory_gb), decisions) in enumerate(zip(runs, answer["decisions"], strict=True)):
        turn, which = divmod(number, RUNS)
        if which not in (0, 1 + turn % (RUNS - 1)) or any(has_one_stage(made) for made in decisions.values()):
            continue
        datasets[dataset.name] = _render({k: v for k, v in asdict(dataset).items() if v != DEFAULTS.get(k)})
        plans.append(
            _render({"dataset": dataset.name, "preset": preset, "memory_gb": memory_gb, "decisions": decisions})
        )
    inputs = ",\n".join(datasets.values())
    outputs = ",\n".join(plans)
    path.write_text(f'{{"version": "{answer["version"]}",\n"datasets": [\n{inputs}\n],\n"plans": [\n{outputs}\n]}}\n')


def _render(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


if __name__ == "__main__":
    sys.exit(main())
