"""Case ids that are names after BIDS, which state the subject.

Source: doi:10.1038/sdata.2016.44, https://bids-specification.readthedocs.io (entities of a file name).
"""

from __future__ import annotations

import re

_NAME = re.compile(r"(?P<subject>sub-[A-Za-z0-9]+)(_[a-z]+-[A-Za-z0-9]+)*(_[A-Za-z0-9]+)?")


def find_subject(case: str) -> str | None:
    """``sub-01_ses-02`` -> ``sub-01``; None for any other id.

    Args:
        case: its id: ``sub-<label>``, more entities ``_<key>-<value>``, and at the end a suffix such as ``_dwi``.
    """
    found = _NAME.fullmatch(case)
    return None if found is None else found["subject"]
