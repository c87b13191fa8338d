"""argv -> one call of the pipeline. The only argparse, environment and exit codes."""

from autoseg.cli.commands import (
    COMMANDS,
    check,
    compare,
    demo,
    evaluate,
    import_,
    import_model,
    info,
    plan,
    predict,
    pretrain,
    report,
    run,
    slice_,
    subset,
    train,
    verify,
)
from autoseg.cli.entry import main

__all__ = [
    "COMMANDS",
    "check",
    "compare",
    "demo",
    "evaluate",
    "import_",
    "import_model",
    "info",
    "main",
    "plan",
    "predict",
    "pretrain",
    "report",
    "run",
    "slice_",
    "subset",
    "train",
    "verify",
]
