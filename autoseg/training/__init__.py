"""Training: a network, batches and a loss in; a state that can be captured, resumed and predicted with out."""

from autoseg.training.distributed import ALONE, Ranks, joined
from autoseg.training.loop import BatchSource, Hooks, train_fold
from autoseg.training.optimisation import learning_rate
from autoseg.training.probe import NoiseBatches, probe_step
from autoseg.training.state import Checkpoint, EpochFacts, TrainingState, pack_checkpoint, unpack_checkpoint

__all__ = [
    "ALONE",
    "BatchSource",
    "Checkpoint",
    "EpochFacts",
    "Hooks",
    "NoiseBatches",
    "Ranks",
    "TrainingState",
    "joined",
    "learning_rate",
    "pack_checkpoint",
    "probe_step",
    "train_fold",
    "unpack_checkpoint",
]
