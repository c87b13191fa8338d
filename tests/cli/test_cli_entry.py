"""``autoseg COMMAND``: every command behind one name."""

import subprocess
import sys

import pytest

import autoseg
from autoseg.cli import COMMANDS, main


@pytest.fixture
def call(capsys):
    """Run ``autoseg`` with some words; gives its exit code and both streams."""

    def call(*words):
        with pytest.raises(SystemExit) as stop:
            main(words)
        printed = capsys.readouterr()
        return stop.value.code, printed.out, printed.err

    return call


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_every_command_stands_in_the_list_on_one_line(call, words):
    code, out, _ = call(*words)
    assert code == 0
    for name, command in COMMANDS.items():
        assert f"  {name:<13} {command.title}\n" in out
    assert max(map(len, out.splitlines())) <= 100


def test_the_version_is_shown(call):
    assert call("--version") == (0, f"autoseg {autoseg.__version__}\n", "")


def test_a_command_is_the_program_of_its_own(call):
    code, out, _ = call("import-model", "--help")
    assert code == 0
    assert out.startswith("usage: autoseg import-model [-h]")
    assert COMMANDS["import-model"].script == "autoseg_import_model"


def test_a_mistyped_command_is_answered_with_the_nearest(call):
    code, _, err = call("trian")
    assert code == 2
    assert err.startswith("autoseg: error: unknown command 'trian' (did you mean 'train'")
    assert err.count("\n") == 1


def test_the_module_runs_as_a_program():
    ran = subprocess.run([sys.executable, "-m", "autoseg", "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"autoseg {autoseg.__version__}\n"
