"""A case that cannot be preprocessed: named, the others done, and only it is done again."""

import pytest

from autoseg.core import parallel
from autoseg.core.records import CaseFacts, ChannelFacts, IntensityFacts
from autoseg.preparation import arrays as preparing
from autoseg.preparation.measuring import _warn_repeated, _warn_unusual

PLAN = ("plan", "-d", "Tiny", "--preset", "pocket", "--workers", 1)
REAL = preparing.prepare_case


def fail_on(name, error):
    def prepare(case_id, *rest):
        if case_id == name:
            raise error
        return REAL(case_id, *rest)

    return prepare


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("no such number"), "case3: ValueError: no such number"),
        (MemoryError(), "case3: the machine ran out of memory; close other programs, or use fewer workers"),
    ],
    ids=["a bug", "memory"],
)
def test_what_went_wrong_is_said_and_only_that_case_is_done_again(run, root, monkeypatch, error, sentence):
    monkeypatch.setattr(preparing, "prepare_case", fail_on("case3", error))
    code, _, err = run(*PLAN, "--root", root)
    assert code == 2
    assert "1 of 6 cases failed while preprocessing; the others are done" in err
    assert sentence in err
    assert ("Traceback" in err and "in prepare" in err) == isinstance(error, ValueError)
    monkeypatch.setattr(preparing, "prepare_case", REAL)
    code, _, err = run(*PLAN, "--root", root)
    assert code == 0
    assert "preprocessing 1 of 6 cases" in err
    code, _, err = run(*PLAN, "--root", root)
    assert code == 0
    assert "preprocessing" not in err


def test_a_case_that_was_half_written_is_done_again(run, planned):
    folder = next((planned / "autoseg_preprocessed" / "Tiny").glob("arrays_*"))
    whole = {path.name: path.read_bytes() for path in folder.glob("case2.*")}
    (folder / "case2.json").unlink()  # written last: without it the arrays do not count
    (folder / "case2.image.npy").write_bytes(b"\x93NUMPY")
    code, _, err = run(*PLAN, "--root", planned)
    assert code == 0
    assert "preprocessing 1 of 6 cases" in err
    assert {path.name: path.read_bytes() for path in folder.glob("case2.*")} == whole


def test_little_free_memory_means_few_workers(run, root, monkeypatch):
    counted = []
    real = parallel.count_workers

    def count(items, bytes_per_worker, **options):
        counted.append(real(items, bytes_per_worker, cores=64))
        return counted[-1]

    monkeypatch.setattr(preparing, "count_workers", count)
    monkeypatch.setattr(parallel.psutil, "virtual_memory", type("Free", (), {"available": 2**29}))
    code, _, _ = run("plan", "-d", "Tiny", "--preset", "pocket", "--root", root)
    assert code == 0
    assert counted == [1] * len(counted) != []


def facts(case, *, spacing=(2.0, 1.0, 1.0), mean=50.0, group=None):
    brain = IntensityFacts(
        count=9, mean=mean, std=1, minimum=0, maximum=9, percentile_00_5=0, median=5, percentile_99_5=9
    )
    return CaseFacts(
        case=case,
        group=group,
        site=None,
        shape=(10, 20, 20),
        spacing=spacing,
        cropped_shape=(10, 20, 20),
        channels=(ChannelFacts(foreground=None, brain=brain),),
        label_voxels={},
        lesions=(),
    )


def test_unusual_spacings_are_named_with_their_median(caplog):
    cases = [facts(f"c{n}") for n in range(5)]
    _warn_unusual([*cases, facts("odd", spacing=(2.0, 0.05, 1.0))])
    assert "1 cases have voxels over 10 times from the median (2 x 1 x 1 mm): odd (2 x 0.05 x 1 mm)" in caplog.text
    caplog.clear()
    _warn_unusual(cases)
    assert not caplog.text


def test_one_scan_under_two_names_is_named_unless_it_is_one_patient(caplog):
    _warn_repeated([facts("a"), facts("b", mean=60.0), facts("c")])
    assert "scans are identical (a and c)" in caplog.text
    caplog.clear()
    _warn_repeated([facts("a", group="p"), facts("b", mean=60.0), facts("c", group="p")])
    assert not caplog.text
