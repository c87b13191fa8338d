"""argv -> one call of the pipeline, one file per command. The only argparse, environment and exit codes."""

from autoseg.cli.comparing import compare
from autoseg.cli.demonstration import demo
from autoseg.cli.evaluating import evaluate
from autoseg.cli.importing import import_
from autoseg.cli.importing_model import import_model
from autoseg.cli.planning import plan
from autoseg.cli.predicting import predict
from autoseg.cli.pretraining import pretrain
from autoseg.cli.reporting import report
from autoseg.cli.running_experiment import run
from autoseg.cli.slicing import slice_
from autoseg.cli.subsetting import subset
from autoseg.cli.training import train

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
