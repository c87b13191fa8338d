"""argv -> one call of the pipeline. The only argparse, environment and exit codes."""

from autoseg.cli.commands import (
    compare,
    demo,
    evaluate,
    import_,
    import_model,
    plan,
    predict,
    pretrain,
    report,
    run,
    slice_,
    subset,
    train,
)

__all__ = [
    "compare",
    "demo",
    "evaluate",
    "import_",
    "import_model",
    "plan",
    "predict",
    "pretrain",
    "report",
    "run",
    "slice_",
    "subset",
    "train",
]
