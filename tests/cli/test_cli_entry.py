"""``autoseg COMMAND``: every command behind one name."""

import errno
import subprocess
import sys
from dataclasses import replace

import pytest

import autoseg
from autoseg.cli import COMMANDS, main
from autoseg.core import parallel


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


SHORTAGES = [
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    ImportError("_SimpleITK.abi3.so: failed to map segment from shared object"),
    RuntimeError("can't start new thread"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
]


@pytest.mark.parametrize("error", SHORTAGES, ids=str)
@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        (None, "the machine ran out of memory; close other programs, and run the same command again"),
        (3 * 10**9, "memory ran out, of which this process may use 3.0 GB; raise that limit (ulimit -v), and run the"),
    ],
)
def test_memory_that_runs_out_is_one_sentence(capsys, monkeypatch, error, limit, sentence):
    def act(*_):
        raise error

    monkeypatch.setattr(parallel, "address_limit_bytes", lambda: limit)
    with pytest.raises(SystemExit) as stop:
        replace(COMMANDS["train"], act=act)(["-d", "Tiny", "-c", "3d", "-f", "0"])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1


def test_a_bug_that_names_no_memory_is_no_shortage():
    def act(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError):
        replace(COMMANDS["train"], act=act)(["-d", "Tiny", "-c", "3d", "-f", "0"])


@pytest.mark.parametrize(("command", "least_gb"), [("train", "2"), ("report", "2"), ("import", "0.8")])
def test_a_limit_that_holds_no_libraries_is_said_before_they_are_loaded(capsys, monkeypatch, command, least_gb):
    monkeypatch.setattr(parallel, "address_limit_bytes", lambda: 5 * 10**8)
    words = {"import": ["msd", "gone", "-d", "Tiny"], "report": ["-d", "Tiny"]}
    with pytest.raises(SystemExit) as stop:
        COMMANDS[command](words.get(command, ["-d", "Tiny", "-c", "3d", "-f", "0"]))
    assert stop.value.code == 2
    assert f"may use 0.5 GB of address space (ulimit -v), and the libraries of this command need {least_gb} GB" in (
        capsys.readouterr().err
    )


def test_a_limit_of_the_address_space_counts_as_free_memory(monkeypatch):
    used = parallel.psutil.Process().memory_info().vms
    monkeypatch.setattr(parallel, "address_limit_bytes", lambda: used + 10**8)
    assert 0 <= parallel.free_memory_bytes() <= 10**8
