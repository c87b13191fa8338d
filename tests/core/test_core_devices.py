"""What a command takes of its machine."""

import platform
import resource

import psutil
import pytest
import torch

from autoseg.core import devices as machine
from autoseg.core.devices import keep_freed_memory

CPU = torch.device("cpu")
MB = 40  # more than 32, which the C library may keep by itself once it has seen larger ones come and go
TENSORS = 10


def faults_of_tensors():
    """Pages that the system had to give for tensors that live one after the other."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(TENSORS):
        torch.ones(MB << 18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_tensors_of_the_next_step_take_the_memory_of_those_that_are_gone():
    fresh, most = faults_of_tensors(), psutil.Process().memory_info().rss
    with keep_freed_memory(CPU, 0.1, share=1) as kept:
        assert kept
        faults_of_tensors()  # some are needed until there is a place for each
        assert faults_of_tensors() < fresh / 5
    assert psutil.Process().memory_info().rss < most + (MB << 20)  # what was kept was given back


@pytest.mark.parametrize(
    ("device", "needed_gb", "share"),
    [("cuda", 0.1, 1), ("cpu", None, 1), ("cpu", 0.51, 1), ("cpu", 0.26, 2)],
)
def test_memory_is_given_back_on_a_gpu_and_where_it_is_scarce_or_nothing_is_known(
    device, needed_gb, share, monkeypatch
):
    monkeypatch.setattr(machine, "free_memory_bytes", lambda: 1_000_000_000)
    with keep_freed_memory(torch.device(device), needed_gb, share=share) as kept:
        assert not kept


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_twice_the_need_must_be_free(monkeypatch):
    monkeypatch.setattr(machine, "free_memory_bytes", lambda: 1_000_000_000)
    with keep_freed_memory(CPU, 0.49, share=1) as kept:
        assert kept


def test_without_glibc_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(machine, "_find_glibc", lambda: None)
    with keep_freed_memory(CPU, 0.1, share=1) as kept:
        assert not kept
