"""docs/first_dataset.md: its commands run in the page's order, and what they print is what the page shows.

A block marked ``sh`` holds commands, and a block marked ``text`` below it their output. Numbers may differ, ``...``
within a line stands for any text, a line ``...`` for any lines. A block ``sh`` below a comment ``<!-- not run: why
-->`` is not run. The dataset has the layout of the page's, with fewer and smaller scans.
"""

import contextlib
import importlib
import io
import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from autoseg.core.images import write_voxels
from autoseg.core.records import Grid

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "first_dataset.md"
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
BLOCK = re.compile(r"(?P<skip><!-- not run: .+? -->\n)?^```(?P<kind>sh|text)\n(?P<body>.*?)^```$", re.M | re.S)
CASES = ("006", "014", "015", "017", "019", "024", "034", "038", "041", "042")
GRID = Grid(shape=(18, 26, 18), spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0))
NUMBER = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"
PROGRESS = re.compile(r"\d\d:\d\d:\d\d .*: [\d,]+ of [\d,]+, \d+ %(, .+)?")  # printed only where something takes long


def write_decathlon(folder):
    """Ten scans with two labels, the first in front of the second, as the Decathlon distributes its tasks."""
    rng = np.random.default_rng(0)
    for case in CASES:
        grid = GRID if case != CASES[0] else Grid(shape=(17, 25, 19), spacing=GRID.spacing, origin=GRID.origin)
        image = rng.normal(100, 10, grid.shape).astype(np.float32)
        label = np.zeros(grid.shape, np.uint8)
        z, y, x = rng.integers(5, 8), rng.integers(4, 7), rng.integers(5, 8)
        label[z : z + 6, y : y + 7, x : x + 6] = 1
        label[z : z + 6, y + 9 : y + 15, x : x + 6] = 2
        image[label > 0] += 80
        write_voxels(folder / "imagesTr" / f"hippocampus_{case}.nii.gz", image, grid)
        write_voxels(folder / "labelsTr" / f"hippocampus_{case}.nii.gz", label, grid)
    content = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "numTraining": len(CASES),
        "training": [
            {"image": f"./imagesTr/hippocampus_{case}.nii.gz", "label": f"./labelsTr/hippocampus_{case}.nii.gz"}
            for case in CASES
        ],
    }
    (folder / "dataset.json").write_text(json.dumps(content))


def write_damaged(folder, source):
    """Five of the scans in autoseg's own layout: one scan is truncated, one label holds an unexpected value."""
    (folder / "imagesTr").mkdir(parents=True)
    for number, case in enumerate(CASES[1:6], start=1):
        scan = (source / "imagesTr" / f"hippocampus_{case}.nii.gz").read_bytes()
        (folder / "imagesTr" / f"case{number}_0000.nii.gz").write_bytes(scan[:2000] if number == 2 else scan)
        label = np.full(GRID.shape, 3 if number == 3 else 1, np.uint8)
        write_voxels(folder / "labelsTr" / f"case{number}.nii.gz", label, GRID)
    content = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content | {"numTraining": 5}))


def run_command(line):
    """Run one command line in this process; everything it printed, in the order it was printed."""
    command, *argv = shlex.split(line)
    module, _, function = SCRIPTS[command].partition(":")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), pytest.raises(SystemExit):
        getattr(importlib.import_module(module), function)(argv)
    return printed.getvalue()


def split_lines(text, *, wrapped):
    """Lines without blank ones and progress; where text is wrapped, a line with its continuations is one."""
    lines = [line for line in text.splitlines() if line.strip() and not PROGRESS.fullmatch(line)]
    return re.sub(r"\n {8,}", " ", "\n".join(lines)).split("\n") if wrapped else lines


def line_pattern(line):
    """What a line of the page stands for."""
    parts = re.split(rf"(\.\.\.|-{{3,}}|\s+|{NUMBER})", line.strip())
    known = {"...": ".*?"}
    patterns = []
    for part in parts:
        if re.fullmatch(r"-{3,}", part):
            patterns.append("-{3,}")
        elif re.fullmatch(NUMBER, part):
            patterns.append(NUMBER)
        else:
            patterns.append(r"\s+" if part.isspace() else known.get(part, re.escape(part)))
    return re.compile("".join(patterns) + r"\s*")


def find_difference(shown, printed, *, wrapped=False):
    """The first line of the page that was not printed, or printed but not shown; None where all agree."""
    real = split_lines(printed, wrapped=wrapped)
    place, anything = 0, False
    for line in split_lines(shown, wrapped=wrapped):
        if line.strip() == "...":
            anything = True
            continue
        pattern = line_pattern(line)
        while anything and place < len(real) and not pattern.fullmatch(real[place].strip()):
            place += 1
        if place == len(real) or not pattern.fullmatch(real[place].strip()):
            return f"shown: {line}\nprinted: {real[place] if place < len(real) else 'nothing more'}"
        place, anything = place + 1, False
    return None if anything or place == len(real) else f"printed, but not shown: {real[place]}"


def test_lines_are_compared_with_numbers_and_gaps_masked():
    assert find_difference("... loss 2.5, 3 s\n", "12:00:01 epoch 1: loss 0.7, 12 s\n") is None
    assert find_difference("a 1\n...\nc\n", "a 20\nb\nb\nc\n") is None
    assert find_difference("a 1\nc\n", "a 20\nb\nc\n") == "shown: c\nprinted: b"
    assert find_difference("a\n", "a\nb\n") == "printed, but not shown: b"
    assert find_difference("Scans: two\n        words\n", "Scans:\n        two words\n", wrapped=True) is None


def test_the_page_shows_what_its_commands_print(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    source = tmp_path / "downloads" / "Task04_Hippocampus"
    write_decathlon(source)
    write_damaged(tmp_path / "autoseg_raw" / "Bad", source)
    for case in CASES[:3]:
        (tmp_path / "scans").mkdir(exist_ok=True)
        shutil.copy(source / "imagesTr" / f"hippocampus_{case}.nii.gz", tmp_path / "scans")
    differences, printed, commands, compared = [], None, "", 0
    for block in BLOCK.finditer(PAGE.read_text()):
        if block["kind"] == "sh":
            commands = block["body"]
            printed = None if block["skip"] else "".join(run_command(line) for line in commands.splitlines())
        elif printed is not None:
            compared += 1
            difference = find_difference(block["body"], printed, wrapped="--explain" in commands)
            if difference:
                differences.append(f"{commands}{difference}\n\n{printed}")
    assert not differences, "\n\n".join(differences)
    assert compared >= 8
