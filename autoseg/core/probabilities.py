"""Probabilities of held-out cases on disk, beside their masks."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from autoseg.core.cropped_probabilities import BoxedProbabilities
from autoseg.core.errors import ModelError
from autoseg.core.records import Outputs
from autoseg.core.store import replacing


def write_probabilities(path: Path, found: BoxedProbabilities, outputs: Outputs) -> None:
    """One compressed ``.npz``, whole or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            probabilities=found.voxels.astype(np.float16, copy=False),
            box=np.array(found.box, np.int32),
            shape=np.array(found.shape, np.int32),
            names=np.array(outputs.names),
            values=np.array(outputs.values),
        )


def read_probabilities(path: Path, outputs: Outputs, *, advice: str) -> BoxedProbabilities:
    """Class probabilities written by ``write_probabilities``.

    Raises:
        ModelError: missing, damaged, or of other labels; the message ends with ``advice``.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            values = tuple(int(value) for value in stored["values"])
            found = BoxedProbabilities(
                voxels=stored["probabilities"],
                box=tuple((int(start), int(stop)) for start, stop in stored["box"]),
                shape=tuple(int(size) for size in stored["shape"]),
                overlap=outputs.overlap,
            )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ModelError(f"{path} is missing or damaged ({error}); {advice}") from error
    if values != outputs.values:
        raise ModelError(f"{path} holds probabilities of other labels ({values}) than the plan has; {advice}")
    return found
