"""The name under which the package is distributed (on PyPI, "autoseg" is a package of somebody else), and its
installation outside the clone, by the lines of the Dockerfile."""

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
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


# ------------------------------------------------------------------------------------------------------ installation


def read_dockerfile():
    """(instruction, argument) of each, continuation lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def is_ignored(path):
    """Whether .dockerignore keeps a path, relative to the root, out of the build: the last pattern that fits counts."""
    ignored = False
    for pattern in (ROOT / ".dockerignore").read_text().splitlines():
        name = pattern.lstrip("!")
        if any(fnmatch.fnmatch(str(part), name) for part in (path, *path.parents[:-1])) and not name.startswith("#"):
            ignored = not pattern.startswith("!")
    return ignored


def make_environment(folder):
    """A fresh virtual environment that sees every package of this one but autoseg, and installs without an index."""
    venv.create(folder / "venv", symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": folder / "venv"}))
    visible = folder / "visible"
    visible.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not re.match(r"autoseg|__editable__|.*\.pth$", path.name):
            (visible / path.name).symlink_to(path)
    (packages / "visible.pth").write_text(f"{visible}\n")
    pip = folder / "venv/bin/pip"
    pip.write_text(f'#!/bin/sh\nexec {folder}/venv/bin/python -m pip "$@"\n')
    pip.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "AUTOSEG"))}
    path = f"{folder}/venv/bin:{os.environ['PATH']}"
    return {**kept, "PATH": path, "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_CONFIG_FILE": os.devnull}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """What the Dockerfile makes, without its base image: (environment variables, working folder, first command).

    Its RUN lines run as they are. Requirements are those of this environment, and nothing is downloaded.
    """
    folder = tmp_path_factory.mktemp("image")
    environment, place, words = make_environment(folder), folder, {}
    for instruction, argument in read_dockerfile():
        if instruction == "ARG":
            environment |= [argument.split("=")]
        elif instruction == "ENV":
            environment |= [word.split("=") for word in argument.replace("=/", f"={folder}/").split()]
        elif instruction == "WORKDIR":
            place = folder / argument.lstrip("/")
            place.mkdir(parents=True)
        elif instruction == "COPY":
            *sources, target = argument.split()
            for source in sources:
                copy_allowed(ROOT / source, place / target / ("" if target == source else source))
        elif instruction == "RUN":
            run_in((environment, place), shlex.join(["sh", "-c", argument]))
        elif instruction in ("ENTRYPOINT", "CMD"):
            words[instruction] = json.loads(argument)
        else:
            assert instruction == "FROM"
    return environment, place, [*words["ENTRYPOINT"], *words["CMD"]]


def copy_allowed(source, target):
    """Copy a file or folder without what .dockerignore keeps out."""
    for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
        if path.is_file() and not is_ignored(path.relative_to(ROOT)):
            copy = target / path.relative_to(source) if source.is_dir() else target
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)


def run_in(image, line):
    settings = {"env": image[0], "cwd": image[1], "capture_output": True, "text": True}
    done = subprocess.run(shlex.split(line), check=False, **settings)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_lines_of_the_dockerfile_install_a_package_that_runs_elsewhere(image):
    assert "commands:" in run_in(image, shlex.join(image[2]))
    assert run_in(image, "autoseg --version") == f"autoseg {PROJECT['version']}\n"
    assert "--memory GB" in run_in(image, "autoseg_plan --help")
    facts = json.loads(run_in(image, "autoseg info --json"))
    assert facts["versions"]["autoseg"] == PROJECT["version"]
    where = Path(run_in(image, 'python -c "import autoseg; print(autoseg.__file__)"').strip())
    assert "image" in str(where)
    assert ROOT not in where.parents


def test_no_file_of_the_package_is_missing_where_it_is_installed(image):
    where = Path(run_in(image, 'python -c "import autoseg; print(autoseg.__file__)"').strip()).parent
    files = [path.relative_to(ROOT / "autoseg") for path in (ROOT / "autoseg").rglob("*") if path.is_file()]
    files = [path for path in files if "__pycache__" not in path.parts]
    assert {".json", ".html", ".css", ".js", ".typed"} <= {path.suffix or path.name[-6:] for path in files}
    assert [str(path) for path in files if not (where / path).is_file()] == []
    for script in PROJECT["scripts"]:
        assert (Path(image[0]["PATH"].split(":")[0]) / script).is_file()


def test_the_cuda_build_takes_torch_from_the_default_index(image):
    (install,) = (argument for name, argument in read_dockerfile() if name == "RUN" and "torchvision" in argument)
    shown = install.replace("pip install", "echo pip install")
    assert "--index-url" in run_in(image, shlex.join(["env", "TORCH=cpu", "sh", "-c", shown]))
    assert "--index-url" not in run_in(image, shlex.join(["env", "TORCH=cuda", "sh", "-c", shown]))


def test_no_data_environments_or_caches_get_into_the_image():
    names = ("autoseg_raw/A/x.nii.gz", ".venv/bin/python", ".git/HEAD", "autoseg/__pycache__/a.pyc")
    assert all(is_ignored(Path(name)) for name in names)
    assert not is_ignored(Path("autoseg/planning/recipes/any.json"))
