"""Planned settings -> a network with weights drawn from a seed; one architecture per file, named in ``NETWORKS``."""

from autoseg.networks.build import (
    NETWORKS,
    build_network,
    check_sizes,
    fit_settings,
    load_initial_weights,
    network_traits,
)
from autoseg.networks.parts import NetworkParts, Part, find_parts
from autoseg.networks.traits import Architecture, NetworkTraits, normalises_batch

__all__ = [
    "NETWORKS",
    "Architecture",
    "NetworkParts",
    "NetworkTraits",
    "Part",
    "build_network",
    "check_sizes",
    "find_parts",
    "fit_settings",
    "load_initial_weights",
    "network_traits",
    "normalises_batch",
]
