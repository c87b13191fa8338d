"""Nothing that only POSIX systems have is needed: a process to which it is hidden imports and plans."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent.parent / "autoseg"
POSIX_ALONE = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix"}

# Hides modules from autoseg alone, and functions of os from everybody.
HIDING = f"""
import builtins, os, sys
for name in ("sched_getaffinity", "killpg", "getpgid", "setsid", "statvfs", "mkfifo"):
    if hasattr(os, name):
        delattr(os, name)
real = builtins.__import__
def hiding(name, globals=None, *rest, **options):
    if name in {POSIX_ALONE} and (globals or {{}}).get("__name__", "").startswith("autoseg"):
        raise ModuleNotFoundError(f"No module named '{{name}}'", name=name)
    return real(name, globals, *rest, **options)
builtins.__import__ = hiding
"""


def test_what_windows_lacks_is_imported_where_its_absence_is_handled():
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        handled = {
            inner
            for node in ast.walk(tree)
            if isinstance(node, ast.Try)
            and any("ImportError" in ast.unparse(h.type) for h in node.handlers if h.type is not None)
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom) and node not in handled:
                names = {alias.name for alias in node.names} if isinstance(node, ast.Import) else {node.module}
                assert not names & POSIX_ALONE, f"{path.name}:{node.lineno}"


def test_without_them_a_dataset_is_planned_and_trainings_can_be_spread(root):
    code = HIDING + (
        "import autoseg.experiment.child_processes as spread\n"
        "assert spread.fcntl is None\n"
        "from autoseg.cli import plan\n"
        "plan(sys.argv[1:])\n"
    )
    argv = ["-d", "Tiny", "--root", str(root), "--preset", "pocket", "--workers", "1", "-q"]
    done = subprocess.run([sys.executable, "-c", code, *argv], check=False, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert (root / "autoseg_preprocessed" / "Tiny" / "plan.json").exists()
