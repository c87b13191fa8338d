"""autoseg: self-configuring segmentation of brain lesions in MRI.

Every command is a function: ``autoseg.plan("ISLES15", memory_gb=8)`` is ``autoseg plan -d ISLES15 --memory 8``.
"""

__version__ = "0.1.0"

from autoseg.api.data import check, import_dataset, import_model, plan, slice_dataset, subset
from autoseg.api.results import compare, evaluate, info, load_model, predict, report, verify
from autoseg.api.training import learning_curve, pretrain, run, train
from autoseg.core.errors import (
    AutosegError,
    CasesError,
    DataError,
    MemoryShortageError,
    ModelError,
    PlanError,
    StaleError,
    StorageError,
    TrainingError,
    UsageError,
)

__all__ = [
    "AutosegError",
    "CasesError",
    "DataError",
    "MemoryShortageError",
    "ModelError",
    "PlanError",
    "StaleError",
    "StorageError",
    "TrainingError",
    "UsageError",
    "__version__",
    "check",
    "compare",
    "evaluate",
    "import_dataset",
    "import_model",
    "info",
    "learning_curve",
    "load_model",
    "plan",
    "predict",
    "pretrain",
    "report",
    "run",
    "slice_dataset",
    "subset",
    "train",
    "verify",
]
