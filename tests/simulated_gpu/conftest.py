"""Machines with simulated cards."""

from contextlib import ExitStack

import pytest
from simulated_card import SimulatedCards


@pytest.fixture
def machine(monkeypatch):
    """Put cards into this machine: ``machine(24, 24)`` is one with two of 24 GB."""
    with ExitStack() as stack:

        def put(*gigabytes, **options):
            return stack.enter_context(SimulatedCards.of(*gigabytes, **options).installed(monkeypatch))

        yield put
