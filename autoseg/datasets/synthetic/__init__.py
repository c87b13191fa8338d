"""Synthetic brains with lesions, for demonstrations and tests without real scans."""

from autoseg.datasets.synthetic.isles15 import make_isles15

__all__ = ["make_isles15"]
