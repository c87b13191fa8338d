"""Completion, by bash itself."""

import re
import shutil
import subprocess

import pytest

from autoseg.cli import COMMANDS
from autoseg.cli.completion import SHELLS, render_completion
from autoseg.options.declaring import declared_fields, option_of

bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


@pytest.fixture
def complete(tmp_path):
    """Candidates that bash offers for the last word of a line."""

    def complete(*words):
        script = render_completion("bash", COMMANDS.values())
        line = " ".join(f"'{word}'" for word in words)
        script += f'COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _autoseg; printf "%s\\n" "${{COMPREPLY[@]}}"'
        ran = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert ran.stderr == ""
        return ran.stdout.split()

    return complete


@bash
@pytest.mark.parametrize(
    ("words", "candidates"),
    [
        (("autoseg", "pre"), ["pretrain", "predict"]),
        (("autoseg", "train", "--ep"), ["--epochs"]),
        (("autoseg_train", "--ep"), ["--epochs"]),
        (("/usr/bin/autoseg_import_model", "--re"), ["--replace"]),
        (("autoseg", "plan", "--preset", "res"), ["residual_m", "residual_l", "residual_xl"]),
        (("autoseg", "predict", "--no-m"), ["--no-mirror"]),
        (("autoseg", "completion", ""), list(SHELLS)),
    ],
    ids=" ".join,
)
def test_bash_offers_commands_options_and_values(complete, words, candidates):
    assert complete(*words) == candidates


@bash
def test_bash_offers_datasets_and_files(complete, tmp_path):
    for name in ("ISLES15", "ISLES22", "Lesions"):
        (tmp_path / "autoseg_raw" / name).mkdir(parents=True)
    assert complete("autoseg", "plan", "-d", "IS") == ["ISLES15", "ISLES22"]
    assert complete("autoseg", "plan", "--folds", "auto") == ["autoseg_raw"]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_long_option_is_in_every_script(shell):
    script = render_completion(shell, COMMANDS.values())
    for command in COMMANDS.values():
        for field in declared_fields(command.options):
            for flag in option_of(field).flags:
                name = flag.lstrip("-")
                assert re.search(rf"(-l |-s |--?){name}\b", script), flag
