"""Cases on disk, in memory and on a device: the same numbers from each."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from autoseg.batches import Batches, cache_in_memory, cache_on_device

CPU = torch.device("cpu")


@pytest.fixture
def mapped(make, tmp_path):
    """Three cases in half precision whose arrays lie on disk, 39600 bytes each."""
    cases = []
    for number in range(3):
        case = make.prepared(f"case{number}", seed=number)
        arrays = {
            "image": case.image.astype(np.float16),
            "label": case.label.astype(np.uint8),
            "prior": case.label.astype(np.uint8),
        }
        for name, array in arrays.items():
            np.save(tmp_path / f"{number}.{name}.npy", array)
            arrays[name] = np.load(tmp_path / f"{number}.{name}.npy", mmap_mode="r")
        cases.append(replace(case, **arrays))
    return cases


def collect(cases, configuration, **options):
    with Batches(cases, configuration, seed=3, workers=2, **options) as batches:
        return [batches.batch(step) for step in range(5)]


def is_mapped(case):
    return [isinstance(array, np.memmap) for array in (case.image, case.label, case.prior)]


def test_what_fits_in_half_of_the_free_memory_is_read_once(mapped, caplog):
    caplog.set_level(logging.INFO, logger="autoseg")
    needed = 3 * 6000 * (2 * 2 + 1 + 1)
    held = cache_in_memory(mapped, 2 * needed)
    assert [is_mapped(case) for case in held] == [[False] * 3] * 3
    assert "reading 3 training cases (0.00 GB) into memory" in caplog.text
    kept = cache_in_memory(mapped, 2 * needed - 2)
    assert [is_mapped(case) for case in kept] == [[True] * 3] * 3
    assert "are read from disk as they are needed: more than half of the 0.00 GB" in caplog.text


def test_what_is_in_memory_already_is_left_alone(make, caplog):
    caplog.set_level(logging.INFO, logger="autoseg")
    cases = [make.prepared("a")]
    assert cache_in_memory(cases, 0)[0] is cases[0]
    assert not caplog.text


@pytest.mark.parametrize("members", [(), ((1,),)], ids=["alone", "cascade"])
def test_where_cases_lie_changes_no_number(make, mapped, members):
    configuration = make.configured(augmentation=make.everything(), batch_size=3)
    expected = {device: collect(mapped, configuration, mask_values=members, device=device) for device in (None, CPU)}
    held = cache_in_memory(mapped, 10**9)
    volumes = cache_on_device(held, CPU, free_bytes=10**9, reserved_bytes=0)
    found = {
        None: [collect(held, configuration, mask_values=members)],
        CPU: [
            collect(held, configuration, mask_values=members, device=CPU),
            collect(mapped, configuration, mask_values=members, device=CPU, volumes=volumes),
        ],
    }
    for device, ways in found.items():
        for way in ways:
            for (image, target), (other, labels) in zip(expected[device], way, strict=True):
                assert torch.equal(image, other)
                assert torch.equal(target, labels)


def test_a_device_holds_cases_in_half_of_what_training_leaves(mapped, caplog):
    caplog.set_level(logging.INFO, logger="autoseg")
    needed = 3 * 6000 * (2 * 2 + 1)  # the prior stays where the threads are
    volumes = cache_on_device(mapped, CPU, free_bytes=2 * needed + 100, reserved_bytes=100)
    assert [volume.image.dtype for volume in volumes] == [torch.float16] * 3
    assert np.array_equal(volumes[1].image.numpy(), mapped[1].image)
    assert np.array_equal(volumes[1].label.numpy(), mapped[1].label)
    assert cache_on_device(mapped, CPU, free_bytes=2 * needed + 98, reserved_bytes=100) is None
    assert cache_on_device(mapped, CPU, free_bytes=100, reserved_bytes=200) is None
    assert (
        "3 training cases (0.00 GB) are not copied to the GPU: more than half of the 0.00 GB that training leaves free"
        in caplog.text
    )
