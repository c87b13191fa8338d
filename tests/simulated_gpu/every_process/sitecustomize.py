"""Put simulated cards into every Python process that starts with this folder on its path: SIMULATED_GPUS=8,8."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import pytest
from simulated_card import SimulatedCards

_CARDS = SimulatedCards.of(*map(float, os.environ["SIMULATED_GPUS"].split(",")))
_INSTALLED = _CARDS.installed(pytest.MonkeyPatch())
_INSTALLED.__enter__()
