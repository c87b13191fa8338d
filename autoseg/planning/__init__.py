"""Fingerprint and budget -> plan: every value with its reason, the folds, and a page that explains them. No torch."""

from autoseg.planning.explain import explain_plan
from autoseg.planning.fitting import reduce_memory
from autoseg.planning.folds import (
    check_sites,
    describe_rule,
    find_split_groups,
    labelled_groups,
    make_folds,
    read_folds_content,
)
from autoseg.planning.imagenet import IMAGENET_CONFIGURATION
from autoseg.planning.plan import make_plan
from autoseg.planning.pricing import DEVICE_GB, price_step
from autoseg.planning.recipes import add_recipes
from autoseg.planning.storage import find_prepared_shape
from autoseg.planning.training import weigh_classes

__all__ = [
    "DEVICE_GB",
    "IMAGENET_CONFIGURATION",
    "add_recipes",
    "check_sites",
    "describe_rule",
    "explain_plan",
    "find_prepared_shape",
    "find_split_groups",
    "labelled_groups",
    "make_folds",
    "make_plan",
    "price_step",
    "read_folds_content",
    "reduce_memory",
    "weigh_classes",
]
