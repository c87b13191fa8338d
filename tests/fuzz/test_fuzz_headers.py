"""Thousands of damaged headers of every format: each is read, or refused in one sentence."""

import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from mutations import judge, make_seeds, mutate

FOUND = sorted((Path(__file__).parent / "found").glob("*"))
FORMATS = ("a.nii", "a.nii.gz", "a.mha", "packed.mha", "a.mhd", "a.nrrd", "packed.nrrd", "a.tif", "packed.tif")
MUTATIONS = 2000 // len(FORMATS) + 1


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    return folder, make_seeds(folder)


@pytest.mark.parametrize("name", FORMATS)
def test_no_damaged_header_does_harm(seeds, name):
    folder, contents = seeds
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rng = np.random.default_rng(FORMATS.index(name))
    path = folder / f"mutated_{name}"
    answers = set()
    for _ in range(MUTATIONS):
        path.write_bytes(mutate(name, contents[name], rng))
        verdict = judge(path)
        assert not verdict.fault, verdict
        answers.add(verdict.sentence[:40])
    assert len(answers) > 1  # some were read, some refused
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # kilobytes: 1 GB


@pytest.mark.parametrize("found", FOUND, ids=lambda path: path.name)
def test_what_was_found_before(tmp_path, found):
    shutil.copy(found, tmp_path)
    assert not judge(tmp_path / found.name).fault
