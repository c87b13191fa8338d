"""A case that cannot be preprocessed: named, the others done, and only it is done again."""

import pytest

from autoseg.core import parallel
from autoseg.preparation import arrays as preparing

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
        (MemoryError(), "case3: the machine ran out of memory; use fewer workers"),
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
