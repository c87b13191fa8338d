import zipfile

import pytest

from autoseg.cli import import_model, predict


@pytest.fixture
def pack(tmp_path):
    """Pack a results folder as nnU-Net's export does, with entries of one's own beside."""

    def write(folder, *entries):
        path = tmp_path / "model.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(folder))
            for name, content in entries:
                archive.writestr(name, content)
        return path

    return write


COMMANDS = {"import_model": import_model, "predict": predict}


@pytest.fixture
def run(capsys):
    """Run a command as a person would; gives its exit code and what it printed on both streams."""

    def call(name, *argv):
        with pytest.raises(SystemExit) as stop:
            COMMANDS[name]([str(argument) for argument in argv])
        printed = capsys.readouterr()
        return stop.value.code, printed.out, printed.err

    return call


@pytest.fixture
def bring(run, tmp_path):
    """Import into a root of one's own; gives exit code and messages, and the root."""

    def call(source, *options):
        code, _, err = run("import_model", source, "-d", "Lesions", "--root", tmp_path / "root", *options)
        return code, err

    return call
