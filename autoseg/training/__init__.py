"""One fold, one loop: a network, batches and a loss in; a state that can be saved, resumed and used out."""

from autoseg.training.distributed import ALONE, Ranks, joined
from autoseg.training.loop import train_fold
from autoseg.training.optimisation import learning_rate
from autoseg.training.probe import NoiseBatches, probe_step
from autoseg.training.state import EpochFacts, TrainingState, load_state, save_state

__all__ = [
    "ALONE",
    "EpochFacts",
    "NoiseBatches",
    "Ranks",
    "TrainingState",
    "joined",
    "learning_rate",
    "load_state",
    "probe_step",
    "save_state",
    "train_fold",
]
