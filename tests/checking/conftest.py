"""Twelve clean cases."""

import pytest
from made_heads import DATASET, make_case, write_case

from autoseg.checking import open_case


@pytest.fixture(scope="session")
def clean(tmp_path_factory):
    """Signs of twelve clean cases."""
    folder = tmp_path_factory.mktemp("clean")
    return [open_case(DATASET, write_case(folder, f"case{n:02d}", *make_case(n))).signs for n in range(12)]
