import os
import subprocess
import sys

import numpy as np
import pytest

from autoseg.core.errors import PlanError, StorageError, UsageError
from autoseg.core.records import Fold
from autoseg.core.registry import Table
from autoseg.core.store import (
    Store,
    check_name,
    check_ours,
    check_writable,
    claimed,
    hidden_beside,
    read_array,
    read_record,
    replacing,
    write_array,
    write_bytes,
)


def test_a_block_that_fails_leaves_the_former_file(tmp_path):
    path = tmp_path / "a.txt"
    write_bytes(path, b"before")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_of_two_that_claim_a_path_the_first_works(tmp_path):
    path = tmp_path / "results" / "work"
    gone = hidden_beside(path).name.replace(f"-{os.getpid():x}-", "-7ffffffe-")
    with claimed(path, "taken"):
        with pytest.raises(UsageError, match="taken"), claimed(path, "taken"):
            pytest.fail("two work at once")
        with claimed(tmp_path / "results" / "other", "taken"):
            pass
    (path.parent / gone).touch()  # of a process that is dead
    with claimed(path, "taken"):
        assert path.parent.is_dir()
    assert [entry.name for entry in path.parent.iterdir()] == [gone]


def test_processes_that_claim_at_once_are_one(tmp_path):
    code = (
        "import sys, time, pathlib\n"
        "from autoseg.core.store import claimed\n"
        "with claimed(pathlib.Path(sys.argv[1]), 'taken'): print('works', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, tmp_path / "work"]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(4)]
    lost = [process for process in processes if process.stdout.readline() != "works\n"]
    assert len(lost) == 3
    for process in processes:
        _, err = process.communicate()
        assert (process.returncode == 0) == (process not in lost)
        assert ("UsageError: taken" in err) == (process in lost)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KB, where the machine lets us mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_one_sentence_and_keeps_the_former_file(small_disk):
    path = small_disk / "a.npy"
    write_array(path, np.arange(10))
    with pytest.raises(StorageError, match=r"a\.npy could not be written: the disk is full"):
        write_array(path, np.zeros(100_000))
    assert np.array_equal(read_array(path), np.arange(10))
    assert [path.name for path in small_disk.iterdir()] == ["a.npy"]


def leave(folder, name, pid):
    """A hidden file as a process of that number leaves it when it is killed."""
    hidden = hidden_beside(folder / name)
    path = hidden.with_name(hidden.name.replace(f"-{os.getpid():x}-", f"-{pid:x}-"))
    path.write_bytes(b"half")
    return path


def test_what_processes_that_are_gone_left_is_removed_and_nothing_else(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    left, alive = leave(tmp_path, "a.pt", gone.pid), leave(tmp_path, "b.pt", os.getppid())
    other = left.with_name(left.name.replace(left.name[1:7], "abcdef"))  # of another machine
    fresh, old, users = tmp_path / ".01234567.a.json", tmp_path / ".89abcdef.a.json", tmp_path / ".settings.json"
    for path in (other, fresh, old, users):
        path.write_bytes(b"x")
    for path in (old, users):
        os.utime(path, (0, 0))
    write_bytes(tmp_path / "c.txt", b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"c.txt", *(p.name for p in (alive, other, fresh, users))}


def test_a_process_that_has_the_number_by_chance_or_is_dead_keeps_no_leftover(tmp_path):
    later, alive = leave(tmp_path, "a.pt", os.getpid()), leave(tmp_path, "b.pt", os.getpid())
    os.utime(later, (0, 0))  # before this process began
    unburied = subprocess.Popen(["true"])
    os.waitid(os.P_PID, unburied.pid, os.WEXITED | os.WNOWAIT)
    leave(tmp_path, "c.pt", unburied.pid)
    write_bytes(tmp_path / "d.txt", b"new")
    assert sorted(tmp_path.iterdir()) == sorted([alive, tmp_path / "d.txt"])
    unburied.wait()


def test_a_folder_that_cannot_be_written_to_is_told_before_the_work(tmp_path):
    check_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(StorageError, match=f"^{folder} could not be written: a part of that path is a file"):
            check_writable(folder)


def test_only_files_of_ours_are_replaced(tmp_path):
    check_ours(tmp_path / "new.csv", "case,label")
    (tmp_path / "ours.csv").write_text("case,label\n1,2\n")
    check_ours(tmp_path / "ours.csv", "case,label")
    (tmp_path / "theirs.csv").write_text("patient;age\n")
    with pytest.raises(UsageError, match=r"theirs\.csv was not written by autoseg"):
        check_ours(tmp_path / "theirs.csv", "case,label")
    with pytest.raises(UsageError, match="is a folder"):
        check_ours(tmp_path, "case,label")


@pytest.mark.parametrize("name", ["", "..", "a/b", "-d", ".hidden", "a b"])
def test_names_that_are_no_folder_names(name):
    with pytest.raises(UsageError, match="is not a valid dataset name"):
        check_name(name, "dataset")


def test_folders_of_a_dataset(tmp_path):
    store = Store(tmp_path)
    assert store.raw("X") == tmp_path / "autoseg_raw" / "X"
    assert store.results("X", "3d") == tmp_path / "autoseg_results" / "X" / "3d"


def test_a_missing_record_says_what_to_do(tmp_path):
    with pytest.raises(PlanError, match=r"fold\.json does not exist; run it"):
        read_record(Fold, tmp_path / "fold.json", advice="run it")


def test_the_group_of_entry_points_is_the_plural():
    assert Table("network", {}).group == "autoseg.networks"
    assert Table("loss", {}, plural="losses").group == "autoseg.losses"


def test_an_unknown_name_lists_the_known_ones():
    table = Table("network", {"unet": "math:pi", "other": "math:e"})
    assert table["unet"] == pytest.approx(3.14159, abs=1e-5)
    with pytest.raises(
        UsageError, match=r"unknown network 'resnet' \(did you mean 'unet'\?\); choose from: unet, other"
    ):
        table["resnet"]
