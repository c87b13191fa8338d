"""Files in the folder of one fold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from autoseg.core.errors import ModelError
from autoseg.core.records import TrainedFold
from autoseg.core.store import read_record, write_text
from autoseg.training import Checkpoint, unpack_checkpoint

CHECKPOINT = "checkpoint.pt"
FACTS = "fold.json"
HISTORY = "history.jsonl"
PICTURE = "progress.png"

Row = dict[str, float | int | None]


def mask_path(folder: Path, case_id: str) -> Path:
    """The mask of a held-out case in a fold's folder."""
    return folder / "validation" / f"{case_id}.nii.gz"


def probabilities_path(folder: Path, case_id: str) -> Path:
    """The class probabilities of a held-out case in a fold's folder, if they are kept."""
    return folder / "validation" / f"{case_id}.npz"


def table_path(folder: Path, case_id: str) -> Path:
    """The scores of a held-out case with every post-processing, in a fold's folder."""
    return folder / "postprocessing" / f"{case_id}.npz"


def read_facts(folder: Path, *, advice: str) -> TrainedFold:
    """The facts of a trained fold.

    Raises:
        ModelError: they are missing or damaged.
    """
    return read_record(TrainedFold, folder / FACTS, advice=advice)


def read_history(folder: Path) -> list[Row]:
    """The rows of a fold's history, one per epoch; none before the first."""
    path = folder / HISTORY
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write_history(folder: Path, rows: Sequence[Row]) -> None:
    """Write the rows of a fold's history."""
    write_text(folder / HISTORY, "".join(json.dumps(row) + "\n" for row in rows))


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The last checkpoint of a fold; None before the first.

    Raises:
        ModelError: it is damaged or of another version.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        return unpack_checkpoint(path.read_bytes())
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
