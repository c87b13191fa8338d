"""Hostile and damaged DICOM: one sentence and one case each, bounded memory, nothing outside the folder."""

import shutil
import struct
import zipfile

import numpy as np
import pydicom
import pytest
from dicom_series import BIRTH, GRID, NAME, NUMBER, write_series
from pydicom.uid import DeflatedExplicitVRLittleEndian

from autoseg.core.errors import DataError
from autoseg.dicom import files as dicom_files
from autoseg.dicom.files import find_files, holds_dicom, parse
from autoseg.dicom.pixels import read_volume
from autoseg.dicom.studies import find_studies


@pytest.fixture
def study(tmp_path):
    """Two patients, each with a folder of one series of each of two scans."""
    for number, patient in enumerate(("ann", "bob")):
        uid = f"1.2.3.{number + 1}"
        write_series(tmp_path / patient / "flair", study=uid, number=1)
        write_series(tmp_path / patient / "t1", study=uid, number=2, description="T1 MPRAGE")
    return tmp_path


def zip_folder(folder, target):
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder.parent))
    return target


def names(found):
    studies, failures = found
    return [one.id for one in studies], sorted(failures)


# ------------------------------------------------------------------------------------------------ names and places


def test_a_folder_of_patients_has_a_case_for_each_named_by_its_folder(study):
    (study / "ann" / "notes.txt").write_text("no scan")
    (study / "DICOMDIR").write_bytes(b"x" * 128 + b"DICM")
    assert names(find_studies(study)) == (["ann", "bob"], [])


def test_a_mixed_folder_and_a_folder_of_series_are_one_case(tmp_path):
    write_series(tmp_path / "Case 7" / "a", number=1)
    write_series(tmp_path / "Case 7" / "b", number=2)
    assert names(find_studies(tmp_path / "Case 7")) == (["Case_7"], [])
    for series in ("a", "b"):
        for path in (tmp_path / "Case 7" / series).iterdir():
            path.rename(tmp_path / "Case 7" / f"{series}{path.name}")
    [one], _ = find_studies(tmp_path / "Case 7")
    assert (one.id, len(one.volumes)) == ("Case_7", 2)


def test_two_visits_in_one_folder_are_numbered_by_date(tmp_path):
    write_series(tmp_path / "in" / "ann", study="1.2.9", number=1, StudyDate="20240301")
    write_series(tmp_path / "in" / "ann", study="1.2.1", number=1, StudyDate="20240401", start=50)
    studies, _ = find_studies(tmp_path / "in")
    assert {one.id: one.volumes[0].series.study for one in studies} == {"ann-1": "1.2.9", "ann-2": "1.2.1"}


def test_zips_of_patients_are_read_in_place(study):
    for patient in ("ann", "bob"):
        zip_folder(study / patient, study / f"{patient}.zip")
        for path in sorted((study / patient).rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        (study / patient).rmdir()
    assert holds_dicom(study)
    studies, failures = find_studies(study)
    assert failures == {}
    assert [one.id for one in studies] == ["ann", "bob"]
    assert read_volume(studies[0].volumes[0]).shape == GRID.shape
    assert [one.id for one in find_studies(study / "ann.zip")[0]] == ["ann"]
    assert sorted(path.name for path in study.iterdir()) == ["ann.zip", "bob.zip"]


def test_a_file_that_is_there_twice_is_used_once_and_another_version_refused(study, caplog):
    [first, *_] = sorted((study / "ann" / "flair").iterdir())
    copy = study / "ann" / "again"
    copy.write_bytes(first.read_bytes())
    assert names(find_studies(study)) == (["ann", "bob"], [])
    assert "case ann: 1 files are there twice" in caplog.text
    copy.write_bytes(first.read_bytes()[:-2] + b"zz")
    studies, failures = find_studies(study)
    assert [one.id for one in studies] == ["bob"]
    assert "two versions of one image" in failures["ann"]


def test_reports_and_other_objects_are_ignored(study):
    [first, *_] = sorted((study / "ann" / "flair").iterdir())
    report = pydicom.dcmread(first)
    for key in ("Rows", "Columns", "PixelData", "BitsAllocated"):
        delattr(report, key)
    report.SOPInstanceUID, report.SOPClassUID = "1.2.3.99", "1.2.840.10008.5.1.4.1.1.88.11"  # a basic text report
    report.save_as(study / "ann" / "flair" / "report")
    assert names(find_studies(study)) == (["ann", "bob"], [])


# -------------------------------------------------------------------------------------------------------- hostile


def cut(content):
    return content[: len(content) // 2]


def cut_later(content):
    return content[: content.index(struct.pack("<HH", 0x28, 0x30))]


def header_only(content):
    return content[:200]


def no_syntax(content):
    return content.replace(b"1.2.840.10008.1.2.1\0", b"9.9.999.99999.9.9.9\0")[:140]


def unknown_syntax(content):
    return content.replace(b"1.2.840.10008.1.2.1\0", b"9.9.999.99999.9.9.9\0")


def deflated(content):
    return content.replace(b"1.2.840.10008.1.2.1\0", str(DeflatedExplicitVRLittleEndian).encode()[:20])


def set_short(tag, value):
    def change(content):
        at = content.index(struct.pack("<HH", *tag) + b"US") + 8
        return content[:at] + struct.pack("<H", value) + content[at + 2 :]

    change.__name__ = f"{tag[1]:x}={value}"
    return change


def nested(content):
    """A sequence in a sequence, 5000 deep."""
    item = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    at = content.index(struct.pack("<HH", 0x0010, 0x0010))
    return content[:at] + item * 5000 + content[at:]


DAMAGES = [
    cut, cut_later, header_only, no_syntax, unknown_syntax, nested, set_short((0x28, 0x10), 60000),
    set_short((0x28, 0x10), 9), set_short((0x28, 0x11), 0), set_short((0x28, 0x100), 7), set_short((0x28, 0x103), 9),
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda change: change.__name__)
def test_a_damaged_file_costs_its_case_and_no_other(damage, study):
    [first, *_] = sorted((study / "ann" / "flair").iterdir())
    first.write_bytes(damage(first.read_bytes()))
    studies, failures = find_studies(study)
    assert "bob" in [one.id for one in studies]
    assert all(read_volume(volume).shape == GRID.shape for one in studies if one.id == "bob" for volume in one.volumes)
    sentences = list(failures.values())
    for one in studies:
        sentences += [series.reason for series in one.left_out]
        for volume in one.volumes:
            try:
                read_volume(volume)
            except DataError as error:
                sentences.append(str(error))
    assert sentences
    for sentence in sentences:
        assert "\n" not in sentence
        assert not [secret for secret in (NAME, "Quixote", NUMBER, BIRTH) if secret in sentence]


def test_random_bytes_never_raise_anything_but_a_sentence(study):
    rng = np.random.default_rng(0)
    files = sorted((study / "ann" / "flair").iterdir())
    original = files[0].read_bytes()
    for _ in range(20):
        content = bytearray(original)
        for at in rng.integers(132, len(content) - 200, 6):
            content[at] = rng.integers(256)
        files[0].write_bytes(content)
        studies, _ = find_studies(study / "ann")
        for one in studies:
            for volume in one.volumes:
                try:
                    read_volume(volume)
                except DataError as error:
                    assert "\n" not in str(error)


def test_a_deflated_file_is_refused_before_it_is_inflated(study):
    path = sorted((study / "ann" / "flair").iterdir())[0]
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.PixelData = bytes(10**7)
    dataset.save_as(path)
    [source] = [source for source in find_files(study).sources if source.path == path]
    with pytest.raises(DataError, match="is deflated as a whole"):
        parse(source)


def test_a_file_that_only_its_name_calls_dicom_fails_its_case(study):
    (study / "ann" / "flair" / "last.dcm").write_bytes(b"not DICOM")
    _, failures = find_studies(study)
    assert failures == {
        "ann": "case ann: ann/flair/last.dcm is not a DICOM file, whatever its name; copy it again or remove it"
    }


def test_links_out_of_the_folder_are_refused_and_links_inside_are_not(study, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    [one, *_] = write_series(outside, study="1.2.3.1", number=9, start=80)
    path = sorted((study / "bob" / "t1").iterdir())[0]
    path.symlink_to(path.rename(path.with_name("moved")))
    assert names(find_studies(study)) == (["ann", "bob"], [])
    (study / "ann" / "flair" / "link").symlink_to(one)
    (study / "ann" / "folder").symlink_to(outside, target_is_directory=True)
    _, failures = find_studies(study)
    assert "ann/flair/link is a link out of the folder" in failures["ann"]


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "C:\\evil"])
def test_a_zip_with_paths_out_of_it_is_refused(study, name):
    with zipfile.ZipFile(study / "cat.zip", "w") as archive:
        archive.writestr(name, b"x" * 128 + b"DICM")
    studies, failures = find_studies(study)
    assert [one.id for one in studies] == ["ann", "bob"]
    assert "a path out of the zip" in failures["cat"]


def test_a_zip_bomb_is_refused_before_it_is_unpacked(study, monkeypatch):
    with zipfile.ZipFile(study / "cat.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scan", b"x" * 128 + b"DICM" + bytes(2**26))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("it was opened"))
    _, failures = find_studies(study)
    assert "which no zip of scans does" in failures["cat"]


@pytest.mark.parametrize("damage", [cut, lambda content: b"PK" + content[50:], lambda content: content[:-40]])
def test_a_damaged_zip_is_one_sentence(study, damage):
    zip_folder(study / "ann", study / "cat.zip")
    (study / "cat.zip").write_bytes(damage((study / "cat.zip").read_bytes()))
    _, failures = find_studies(study)
    assert "cat.zip is damaged" in failures["cat"]


def test_a_zip_that_understates_a_file_is_refused(study):
    path = zip_folder(study / "ann", study / "cat.zip")
    content = path.read_bytes()
    size = next((study / "ann" / "flair").iterdir()).stat().st_size
    shutil.rmtree(study / "ann")
    path.write_bytes(content.replace(struct.pack("<I", size), struct.pack("<I", size * 2)))
    _, failures = find_studies(study)
    assert "ends early in its zip" in failures["cat"] or "cannot be unpacked" in failures["cat"]


def test_no_more_files_are_listed_than_a_folder_of_studies_has(study, monkeypatch):
    monkeypatch.setattr(dicom_files, "MAX_FILES", 10)
    with pytest.raises(Exception, match="holds more than 10 DICOM files"):
        find_files(study)


def test_other_folders_are_not_dicom(tmp_path):
    (tmp_path / "scan.nii.gz").write_bytes(b"x" * 400)
    assert not holds_dicom(tmp_path)
    (tmp_path / "notes.zip").write_bytes(zip_folder(tmp_path, tmp_path.parent / "notes.zip").read_bytes())
    assert not holds_dicom(tmp_path)
