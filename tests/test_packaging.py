"""The name under which the package is distributed: on PyPI, "autoseg" is a package of somebody else."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
KINDS = {".py", ".md", ".toml", ".txt", ".cfg", ".ipynb", ".yml", ".yaml", ".cff", ".html", ".json", ".sh", ""}
TEXTS = [
    path
    for place in ("autoseg", "benchmarks", "docs", "tests")
    for path in sorted((ROOT / place).rglob("*"))
    if path.is_file() and path.suffix in KINDS and "__pycache__" not in path.parts
] + sorted(path for path in ROOT.iterdir() if path.is_file() and path.suffix in KINDS and path.name != ".git")

# A line that would fetch the package of that name: bare, with an extra, or with a version.
BARE = re.compile(r"\b(?:pip3?|uv|uvx|pipx|conda)\b[^\n`]*\b(?:install|add|download)\b[^\n`]*[\s'\"]autoseg(?![-\w./])")
EXTRA = re.compile(r"\bautoseg\[\w")
METADATA = """
import sys
from setuptools import build_meta
sys.stdout.write(build_meta.prepare_metadata_for_build_wheel("metadata"))
"""


@pytest.mark.parametrize(
    "line", ["pip install autoseg", "pip install -U 'autoseg[networks]'", 'python -m pip install "autoseg==1.1"']
)
def test_lines_that_fetch_the_other_package_are_found(line):
    assert BARE.search(line)


@pytest.mark.parametrize(
    "line", ["pip install autoseg-lesion", "pip install -c constraints.txt -e '.[networks]'", "pip install ./autoseg"]
)
def test_lines_that_install_this_package_pass(line):
    assert not BARE.search(line)
    assert not EXTRA.search(line)


def test_no_text_tells_anyone_to_install_the_other_package():
    assert {ROOT / "README.md", ROOT / "pyproject.toml", ROOT / "autoseg/experiment/cluster.py"} <= set(TEXTS)
    lines = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in TEXTS
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if BARE.search(line) or EXTRA.search(line)
    ]
    assert not lines, "\n".join(lines)


def test_built_metadata_require_no_package_of_that_name(tmp_path):
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "autoseg").mkdir()
    (tmp_path / "autoseg/__init__.py").touch()
    (tmp_path / "metadata").mkdir()
    command = [sys.executable, "-c", METADATA]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (file,) = (tmp_path / "metadata").rglob("METADATA")
    lines = file.read_text().splitlines()
    assert f"Name: {PROJECT['name']}" in lines
    assert PROJECT["name"] != "autoseg"
    required = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    assert any(line.startswith("torch>=") for line in required)
    assert not [line for line in required if line.lower().startswith("autoseg")]


def test_dev_has_what_tests_of_extras_need():
    extras = PROJECT["optional-dependencies"]
    assert {*extras["networks"], *extras["encoders"]} <= set(extras["dev"])


def test_the_versions_agree():
    import autoseg

    assert autoseg.__version__ == PROJECT["version"]
