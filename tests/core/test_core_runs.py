"""run.json and run.log: what a command did, without the paths of the machine."""

import json
import logging
import signal
from pathlib import Path

import pytest

from autoseg.core.errors import CasesError, UsageError
from autoseg.core.records import RunRecord
from autoseg.core.runs import RUN, _PathShortener, note_case, recorded
from autoseg.core.store import Store, read_record, sha256

log = logging.getLogger("autoseg.trial")


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("wrote /data/lab/autoseg_results/Tiny/3d", "wrote <root>/autoseg_results/Tiny/3d"),
        ("/data/laboratory/x/y.json is damaged", ".../y.json is damaged"),
        ("-i /home/anna/My Scans/new -o out/masks", "-i .../new -o out/masks"),
        ("'/mnt/share/case 1.nii.gz', then", "'.../case 1.nii.gz', then"),
        (r"C:\Users\anna\scans\a.nii", r".../a.nii"),
        (
            "https://pytorch.org/get/started or tcp://10.0.0.1:8786",
            "https://pytorch.org/get/started or tcp://10.0.0.1:8786",
        ),
        ("step 3/4, 6 GB/s, and/or, masks/case1.nii.gz", "step 3/4, 6 GB/s, and/or, masks/case1.nii.gz"),
    ],
)
def test_absolute_paths_are_shortened_and_nothing_else(text, short):
    shorten = _PathShortener(Path("/data/lab"), ["-i", "/home/anna/My Scans/new"])
    assert shorten(text) == short


def read(path):
    return read_record(RunRecord, path, advice="")


def test_a_record_holds_cases_times_inputs_and_the_exit_code(tmp_path):
    store, path = Store(tmp_path), tmp_path / "out" / RUN
    scan = tmp_path / "scan.nii"
    scan.write_bytes(b"voxels")
    with recorded(store, path, ("autoseg_predict", "-o", str(tmp_path / "out"))) as run:
        run.begin()
        assert read(path).exit_code is None  # as it stays after kill -9
        note_case("a", None, 1.5)
        note_case("a", None, 0.25)
        run.note_case("b", f"case b: {scan} is damaged", 2.0)
        run.add_content(scan, case="a")
        log.info("wrote %s", scan)
    record = read(path)
    assert record.exit_code == 0
    assert record.command == "autoseg_predict -o <root>/out"
    assert (record.cases["a"].status, record.cases["a"].seconds) == ("done", 1.75)
    assert (record.cases["b"].status, record.cases["b"].reason) == ("failed", "case b: <root>/scan.nii is damaged")
    assert record.inputs == {"a/scan.nii": f"sha256:{sha256(b'voxels')}"}
    lines = path.with_suffix(".log").read_text().splitlines()
    assert [line.partition("INFO ")[2] for line in lines[1:]] == ["wrote <root>/scan.nii", "exit code 0"]


def test_a_kept_case_keeps_its_time_and_its_inputs(tmp_path):
    store, path = Store(tmp_path), tmp_path / RUN
    (tmp_path / "x.nii").write_bytes(b"x")
    for again in (False, True):
        with recorded(store, path, ("autoseg_predict",)) as run:
            run.begin()
            if again:
                run.keep_case("a")
            else:
                run.note_case("a", None, 3.0)
                run.add_content(tmp_path / "x.nii", case="a")
    record = read(path)
    assert (record.cases["a"].status, record.cases["a"].seconds) == ("kept", 3.0)
    assert list(record.inputs) == ["a/x.nii"]
    assert path.with_suffix(".log").read_text().count("exit code 0") == 2


def test_names_that_are_not_utf_8_are_escaped(tmp_path, monkeypatch):
    for name in ("autoseg", None):  # what pytest captured of other handlers could not be passed on
        monkeypatch.setattr(logging.getLogger(name), "handlers", [])
    with recorded(Store(tmp_path), tmp_path / RUN, ("autoseg_predict",)) as run:
        run.begin()
        run.note_case("caf\udce9", "caf\udce9 is damaged", 1.0)
        log.info("caf\udce9")
    assert read(tmp_path / RUN).cases["caf\\udce9"].reason == "caf\\udce9 is damaged"
    assert "caf\\udce9" in (tmp_path / "run.log").read_text()


def test_a_refusal_before_the_work_writes_nothing(tmp_path):
    with pytest.raises(UsageError), recorded(Store(tmp_path), tmp_path / RUN, ("autoseg_plan",)):
        raise UsageError("no such dataset")
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_are_not_replaced(tmp_path):
    (tmp_path / RUN).write_text('{"runs": 12}')
    refused = pytest.raises(UsageError, match=r"run\.json was not written by autoseg")
    with refused, recorded(Store(tmp_path), tmp_path / RUN, ("autoseg_plan",)) as run:
        run.begin()
    assert (tmp_path / RUN).read_text() == '{"runs": 12}'


def test_a_log_that_a_full_disk_left_empty_does_not_stop_the_next_run(tmp_path):
    (tmp_path / "run.log").touch()
    with recorded(Store(tmp_path), tmp_path / RUN, ("autoseg_plan",)) as run:
        run.begin()
    assert (tmp_path / "run.log").read_text().rstrip().endswith("exit code 0")


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError("wrong"), 2), (KeyboardInterrupt(), 130), (ZeroDivisionError("a bug"), 1)],
)
def test_the_exit_code_is_that_of_the_command(tmp_path, error, code):
    with pytest.raises(type(error)), recorded(Store(tmp_path), tmp_path / RUN, ("autoseg_train",)) as run:
        run.begin()
        raise error
    assert read(tmp_path / RUN).exit_code == code


def test_failed_cases_are_recorded_even_where_nothing_else_was_written(tmp_path):
    with pytest.raises(CasesError), recorded(Store(tmp_path), tmp_path / RUN, ("autoseg_plan",)):
        raise CasesError({"a": "case a: it is empty"}, of=3, doing="measuring")
    record = read(tmp_path / RUN)
    assert record.exit_code == 2
    assert (record.cases["a"].status, record.cases["a"].reason) == ("failed", "it is empty")


def test_a_stop_has_the_code_of_its_signal(tmp_path):
    class Stopped:
        signal = signal.SIGTERM

        def __call__(self):
            return True

    with recorded(Store(tmp_path), tmp_path / RUN, ("autoseg_train",), should_stop=Stopped()) as run:
        run.begin()
    assert read(tmp_path / RUN).exit_code == 143


def test_full_paths_are_written_where_they_are_asked_for(tmp_path):
    store = Store(tmp_path, full_paths=True)
    with recorded(store, tmp_path / RUN, ("autoseg_plan", str(tmp_path))) as run:
        run.begin()
    assert str(tmp_path) in json.loads((tmp_path / RUN).read_text())["command"]


def test_a_program_that_shows_warnings_alone_still_gets_a_whole_log(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    with recorded(Store(tmp_path), tmp_path / RUN, ("autoseg_plan",)) as run:
        run.begin()
        log.info("measuring")
        log.warning("left out a case")
    assert "measuring" in (tmp_path / "run.log").read_text()
    assert [record.message for record in caplog.records] == ["left out a case"]
