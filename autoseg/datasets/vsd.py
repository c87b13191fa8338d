"""File names of the Virtual Skeleton Database, from which ISLES 2015 and BraTS 2015 were distributed.

``VSD.Brain.XX.O.MR_Flair.<id>/VSD.Brain.XX.O.MR_Flair.<id>.nii``, each file in a folder of its own name and with an id
of its own; labels are ``OT``.
"""

from __future__ import annotations

import re
from pathlib import Path

from autoseg.core.images import strip_ending

_KIND = re.compile(r"\.(MR_\w+|OT)\.\d+(?P<part>_\w+)?$")
_FOLDER = re.compile(r"^VSD\..*\.(MR_\w+|OT)\.\d+$")


def read_vsd_kind(path: Path) -> str | None:
    """``VSD.Brain.XX.O.MR_Flair.70614.nii`` -> ``mr_flair``; ``ot`` for a label, None for any other file.

    A file with another name takes the kind of its folder.
    """
    found = _KIND.search(strip_ending(path)) or _FOLDER.match(path.parent.name)
    return found[1].lower() if found else None


def find_vsd_case(path: Path) -> Path:
    """The folder of the case that a file belongs to."""
    return path.parent.parent if _FOLDER.match(path.parent.name) else path.parent
