"""Planned settings -> a network with weights drawn from a seed; one architecture per file, named in ``NETWORKS``."""

from autoseg.networks.build import NETWORKS, build_network, fit_settings, network_traits
from autoseg.networks.traits import Architecture, NetworkTraits

__all__ = ["NETWORKS", "Architecture", "NetworkTraits", "build_network", "fit_settings", "network_traits"]
