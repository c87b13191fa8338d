import subprocess

import numpy as np
import pytest

from autoseg.core.errors import PlanError, StorageError, UsageError
from autoseg.core.records import Fold
from autoseg.core.registry import Table
from autoseg.core.store import Store, check_name, read_array, read_record, replacing, write_array, write_bytes


def test_a_block_that_fails_leaves_the_former_file(tmp_path):
    path = tmp_path / "a.txt"
    write_bytes(path, b"before")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


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
