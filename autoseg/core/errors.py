"""Every error a user can cause, as one tree; the command line turns each into one sentence and exit code 2.

    AutosegError
    ├── UsageError          a command was given something that does not exist
    ├── DataError           a scan, a label or a dataset is not what it should be
    │   └── CasesError      some cases of many failed; the others were done
    ├── PlanError           plan.json, folds.json or another record is wrong or was edited wrongly
    │   └── StaleError      preprocessed arrays are older than the plan
    ├── ModelError          a trained model is missing, incomplete or does not fit
    ├── TrainingError       training cannot continue (loss not finite, no foreground, ...)
    ├── MemoryShortageError the device or the machine has too little memory
    └── StorageError        the disk refused a write (full, read-only)

A message is one sentence: what is wrong, where (case, file, value) and what to do.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping


class AutosegError(Exception):
    """Root of every error that a user, not a programmer, can correct."""


class UsageError(AutosegError):
    """A command was given something that does not exist or does not go together."""


class DataError(AutosegError):
    """A scan, a label or a dataset is missing, damaged or inconsistent."""


class CasesError(DataError):
    """Some cases of many failed, and the others were done, unless ``others`` states something else.

    Attributes:
        failures: case id -> one sentence on its problem, in the order of the ids.
    """

    def __init__(
        self, failures: Mapping[str, str], *, of: int, doing: str, others: str = "the others are done"
    ) -> None:
        self.failures = {case: sentence.removeprefix(f"case {case}: ") for case, sentence in sorted(failures.items())}
        lines = "".join(f"\n  {case}: {sentence}" for case, sentence in self.failures.items())
        rest = f"; {others}" if len(self.failures) < of else ""
        super().__init__(f"{len(self.failures)} of {of} cases failed while {doing}{rest}:{lines}")


class PlanError(AutosegError):
    """A record on disk (plan.json, folds.json, ...) is wrong or was edited wrongly."""


class StaleError(PlanError):
    """Preprocessed arrays were made with other settings than the plan now holds."""


class ModelError(AutosegError):
    """A trained model is missing, incomplete or does not fit."""


class TrainingError(AutosegError):
    """Training cannot continue."""


class MemoryShortageError(AutosegError):
    """The device or the machine has too little memory for what was planned."""


class StorageError(AutosegError):
    """The disk refused a write: full, read-only or disconnected."""


# Texts of torch, C++, the loader of libraries and Python's threads, none of which has a type of its own for it.
_SHORTAGES = ("out of memory", "allocate memory", "bad_alloc", "failed to map segment", "can't start new thread")


def is_memory_shortage(error: BaseException) -> bool:
    """Whether an error means that memory ran out: by its type, its number or its text."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    by_text = isinstance(error, RuntimeError | ImportError | SystemError)
    by_type = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's
    return by_type or (by_text and any(text in str(error) for text in _SHORTAGES))
