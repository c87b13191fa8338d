"""Planned settings -> a network with weights drawn from a seed; one architecture per file, named in ``NETWORKS``."""

from autoseg.networks.build import NETWORKS, build_network

__all__ = ["NETWORKS", "build_network"]
