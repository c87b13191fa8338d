"""Code that docs show runs as it stands, on a tiny dataset."""

import json
import re
import shutil
from pathlib import Path

import matplotlib
import pytest

import autoseg

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def folder(root, monkeypatch):
    """The current folder, with the dataset ``Lesions`` and its scans once more."""
    (root / "autoseg_raw" / "Tiny").rename(root / "autoseg_raw" / "Lesions")
    shutil.copytree(root / "autoseg_raw" / "Lesions" / "imagesTr", root / "scans")
    monkeypatch.chdir(root)
    monkeypatch.delenv("AUTOSEG_ROOT", raising=False)
    matplotlib.use("Agg")
    return root


def test_the_page_of_the_functions_runs_from_top_to_bottom(folder, capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / "python.md").read_text(), flags=re.M | re.S)
    names = {}
    for block in blocks:
        exec(compile(block, "python.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "('background', 'lesion') (2, 12, 20, 16)" in printed
    assert "--time-budget: invalid duration 'soon'; use 90s, 10m or 6h" in printed
    assert len(list((folder / "masks").glob("case*.nii.gz"))) == 6


def test_the_page_names_every_function():
    rows = set(re.findall(r"^\| `(\w+)\(", (DOCS / "python.md").read_text(), flags=re.M))
    assert rows == {name for name in autoseg.__all__ if name.islower() and name != "__version__"}


def test_the_notebook_runs_from_top_to_bottom(folder):
    cells = json.loads((DOCS / "first_steps.ipynb").read_text())["cells"]
    names = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "first_steps.ipynb", "exec"), names)
    assert names["mask"].shape == (12, 20, 16)
    assert not [cell for cell in cells if cell.get("outputs")]
