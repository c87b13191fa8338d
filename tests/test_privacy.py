"""No output names a patient, a birth date or a folder of the machine, whatever the headers of the scans hold."""

import gzip
import zipfile
from pathlib import Path

import pytest

from autoseg.cli import compare, evaluate, import_, plan, predict, report, subset, train

NAME, BORN = b"MUELLER^ANNA", b"19610203"


def mark_headers(folder):
    """Let the headers of a dataset hold a name and a date, as some converters of DICOM leave them."""
    for path in (folder / "imagesTr").iterdir():
        voxels = bytearray(gzip.decompress(path.read_bytes()))
        voxels[148 : 148 + 40] = (NAME + b" " + BORN).ljust(40, b"\0")  # descrip
        voxels[228 : 228 + 24] = NAME.ljust(24, b"\0")  # aux_file
        path.write_bytes(gzip.compress(bytes(voxels)))


def call(command, *argv):
    with pytest.raises(SystemExit) as stop:
        command([str(argument) for argument in argv])
    assert stop.value.code == 0


def contents(path):
    """Bytes of a file, unpacked where it is compressed."""
    yield path.read_bytes()
    if path.suffix == ".gz":
        yield gzip.decompress(path.read_bytes())
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())


def test_no_output_holds_a_name_a_date_or_a_path(tmp_path, root):
    home = tmp_path / "anna" / "clinic"
    source, masks = home / "source", home / "masks"
    home.mkdir(parents=True)
    (root / "autoseg_raw" / "Tiny").rename(source)
    root = home / "root"
    mark_headers(source)
    here = ("--root", root, "-q")
    call(import_, "nnunet", source, "-d", "Tiny", "--copy", *here)
    call(plan, "-d", "Tiny", "--preset", "pocket", "--workers", 1, *here)
    call(subset, "-d", "Tiny", "-n", 2, *here)
    call(train, "-d", "Tiny", "-c", "3d", "-f", 0, "--epochs", 1, "--steps-per-epoch", 1, *here)
    call(predict, "-i", source / "imagesTr", "-o", masks, "--report", "--doubt", "--probabilities", *here)
    call(evaluate, "-p", masks, "-d", "Tiny", *here)
    call(evaluate, "-p", masks, "-d", "Tiny", "-o", home / "again", *here)
    call(compare, masks, home / "again", "-o", home / "comparison", *here)
    call(report, "-d", "Tiny", *here)
    data = root / "autoseg_raw" / "Tiny" / "imagesTr"  # copies of what the user gave
    outputs = [
        path for path in sorted(home.rglob("*")) if path.is_file() and not {source, data} & {*path.parents, path.parent}
    ]
    names = {path.name for path in outputs}
    assert {"run.json", "run.log", "report.html", "doubts.json", "comparison.json", "scores.run.log"} <= names
    assert len([path for path in outputs if path.name.endswith("run.json")]) == 9
    for path in outputs:
        for content in contents(path):
            for word in (NAME, BORN, bytes(home), bytes(Path.home()) + b"/"):
                assert word not in content, f"{path.relative_to(home)} holds {word!r}"
