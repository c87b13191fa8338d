"""Raw datasets: find the files in any known layout, read and check them, bring them into autoseg's own layout."""

from autoseg.datasets.dataset_log import log_assumed, log_left_out, warn_unoriented
from autoseg.datasets.reading import check_extent, read_case, read_image, read_label
from autoseg.datasets.registry import IMPORTERS, Importer, find_dataset, open_dataset
from autoseg.datasets.scans import find_scans
from autoseg.datasets.synthetic import make_isles15
from autoseg.datasets.writing import import_dataset

__all__ = [
    "IMPORTERS",
    "Importer",
    "check_extent",
    "find_dataset",
    "find_scans",
    "import_dataset",
    "log_assumed",
    "log_left_out",
    "make_isles15",
    "open_dataset",
    "read_case",
    "read_image",
    "read_label",
    "warn_unoriented",
]
