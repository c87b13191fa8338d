"""The house: floors, doors and circles, from the source alone."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "autoseg"

FLOORS = {
    "core": 0,
    "options": 1,
    "dicom": 1,
    "fingerprint": 2,
    "preprocessing": 2,
    "batches": 2,
    "networks": 2,
    "losses": 2,
    "metrics": 2,
    "datasets": 2,
    "planning": 3,
    "model": 3,
    "evaluation": 3,
    "checking": 3,
    "training": 4,
    "prediction": 4,
    "reporting": 4,
    "transfer": 4,
    "preparation": 4,
    "folds": 5,
    "experiment": 6,
    "pipeline": 7,
    "cli": 8,
    "api": 9,
    "terminal": 8,
    "train": 10,
    "__main__": 10,
}

# Library -> the only rooms (or files) that may import it.
DOORS = {
    "SimpleITK": {"core/images.py"},
    "cc3d": {"core/masks.py"},  # fails on flat arrays, which ``connected_components`` pads
    "isal": {"core/image_files.py", "core/image_headers.py"},  # inflates; its error class
    "argparse": {"cli"},
    "matplotlib": {"reporting"},
    "contourpy": {"reporting"},
    "jinja2": {"reporting"},
    "markupsafe": {"reporting"},
    "PIL": {"reporting"},
    "pydicom": {"dicom"},
    "highdicom": {"dicom"},
    "batchgenerators": {"batches"},
    "batchgeneratorsv2": {"batches"},
    "monai": {"networks"},
    "dynamic_network_architectures": {"networks"},
    "timm": {"networks/encoder_weights.py"},
    "torchvision": {"networks/encoder_weights.py"},
    "segmentation_models_pytorch": {"networks/encoder_weights.py"},
    "huggingface_hub": {"networks/encoder_weights.py"},
    "safetensors": {"model.py", "networks/initial.py"},  # our weights; those of others to begin with
    "tensorboard": {"reporting/tracking/tensorboard_events.py"},
    "wandb": {"reporting/tracking/wandb_runs.py"},
    "mlflow": {"reporting/tracking/mlflow_runs.py"},
    "openvino": {"prediction/openvino_network.py"},
    "multiprocessing": {"core/parallel.py"},
    "distributed": {"experiment/cluster.py"},
    "dask": {"experiment/cluster.py"},
    "dask_jobqueue": {"experiment/cluster.py"},
}

# Functions that may be longer than 70 lines: one algorithm each, which parts that hand a state around would hide.
LONGER = {
    "prediction/overlapping.py:predict_cases": 90,
    "training/loop.py:train_fold": 100,
}

# Functions that may take more than 8 arguments, each for a reason; public functions (api) and records are exempt.
MANY_ARGUMENTS = {
    "batches/augmentation/kernel_warp.py:warp_patch": "a compiled kernel takes arrays and numbers, no records",
    "batches/augmentation/kernel_warp.py:_warp_rest": "a compiled kernel",
    "batches/augmentation/kernels.py:blend_corners": "a compiled kernel: three axes with two neighbours and a weight",
    "batches/loading.py:__init__": "all that a batch depends on, and where it is made",
    "planning/plan.py:make_plan": "all that a plan depends on",
    "planning/fitting.py:__init__": "all that a search for the largest patch depends on",
}

FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    """Every module imported anywhere in a file, type-checking blocks left out."""
    found = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body.clear()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
    return found


def rooms_imported(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imported_modules(path) if name.startswith("autoseg.")}


def test_every_room_stands_on_a_floor():
    assert {room_of(path) for path in FILES} - {"__init__"} == set(FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms_import_only_from_lower_floors(path):
    room = room_of(path)
    if room == "__init__":
        assert rooms_imported(path) <= {"api", "core"}
        return
    upward = {other for other in rooms_imported(path) - {room} if FLOORS[other] >= FLOORS[room]}
    if room == "cli":
        upward -= {"terminal"}
    assert not upward, f"{room} (floor {FLOORS[room]}) imports {upward}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_one_door_per_library(path):
    inside = path.relative_to(PACKAGE)
    for name in imported_modules(path):
        allowed = DOORS.get(name.split(".")[0])
        assert allowed is None or {str(inside), inside.parts[0]} & allowed, f"{inside} imports {name}"


def test_no_import_circle_among_files():
    modules = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in FILES}
    top_level = {}
    for name, path in modules.items():
        tree = ast.parse(path.read_text())
        wanted = set()
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module in modules:
                wanted |= {f"{node.module}.{a.name}" for a in node.names if f"{node.module}.{a.name}" in modules}
                wanted.add(node.module)
        top_level[name] = wanted - {name}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for other in top_level[name]:
                # A file of a folder may be imported by the folder's own __init__.
                if not name.startswith(other + "."):
                    visit(other, (*trail, name))
            done.add(name)

    for name in modules:
        visit(name, ())


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_fits_in_the_head(path):
    text = path.read_text()
    assert text.count("\n") <= 420
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            allowed = LONGER.get(f"{path.relative_to(PACKAGE)}:{node.name}", 70)
            assert node.end_lineno - node.lineno < allowed, f"{path.name}: {node.name} is too long"


def test_a_function_takes_at_most_eight_arguments():
    many = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or room_of(path) == "api":
                continue
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            if len([a for a in arguments if a.arg not in ("self", "cls")]) > 8:
                many.add(f"{path.relative_to(PACKAGE)}:{node.name}")
    assert many - set(MANY_ARGUMENTS) == set(), "give these a record, or a reason in MANY_ARGUMENTS"
    assert set(MANY_ARGUMENTS) - many == set(), "these need no exception any more"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_manners(path):
    text = path.read_text()
    tree = ast.parse(text)
    inside = str(path.relative_to(PACKAGE))
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{inside}:{node.lineno} bare except"
        if isinstance(node, ast.Call):
            assert getattr(node.func, "id", "") != "print", f"{inside}:{node.lineno} print"
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"):
            assert inside == "cli/running.py", f"{inside}:{node.lineno} reads the environment"
    assert not re.search(r"weights_only\s*=\s*False|allow_pickle\s*=\s*True|pickle\.loads?\(", text), inside
    names = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)} | {path.stem}
    banned = re.compile(r"(^|_)(utils?|helpers?|misc|common|manager|handler)(_|$)|^maybe_", re.I)
    assert not [name for name in names if banned.search(name)], inside


def test_help_imports_nothing_that_is_slow():
    code = (
        "import sys, autoseg.cli\n"
        "try: autoseg.cli.plan(['--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'numpy', 'SimpleITK', 'pydantic', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
