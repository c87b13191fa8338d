"""What the years of BraTS have in common: four channels, and labels that are scored as regions.

Source: doi:10.1109/TMI.2014.2377694 (regions: whole tumour, tumour core, enhancing tumour), arXiv:2107.02314.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from autoseg.core.records import Dataset
from autoseg.datasets.matching import Session, match_cases

CHANNELS = ("FLAIR", "T1", "T1c", "T2")
LICENCE = "as stated in the BraTS download; cite doi:10.1109/TMI.2014.2377694"

# In each region stands first the value that it is painted with, and which no region after it holds.
LABELS_2015 = {"background": 0, "necrosis": 1, "oedema": 2, "non_enhancing_tumour": 3, "enhancing_tumour": 4}
REGIONS_2015 = {"whole_tumour": (2, 1, 3, 4), "tumour_core": (1, 3, 4), "enhancing_tumour": (4,)}
LABELS = {"background": 0, "necrotic_core": 1, "oedema": 2, "enhancing_tumour": 3}
REGIONS = {"whole_tumour": (2, 1, 3), "tumour_core": (1, 3), "enhancing_tumour": (3,)}


def make_tumour_dataset(
    name: str, kind: str, sessions: Iterable[Session], kinds: Mapping[str, str], **others: Any
) -> Dataset:
    """A BraTS dataset of complete sessions.

    Args:
        name: of the dataset.
        kind: of the importer.
        sessions: whose labels are of the kind "label".
        kinds: channel name -> kind of file.
        others: fields that this year has otherwise.
    """
    cases, left_out = match_cases(sessions, {channel: kinds[channel] for channel in CHANNELS}, "label")
    fields = {"labels": LABELS, "regions": REGIONS, **others}
    return Dataset(name=name, kind=kind, channels=CHANNELS, licence=LICENCE, cases=cases, left_out=left_out, **fields)
