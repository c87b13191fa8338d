"""Every network on the shelf trains and predicts on a card, with the numbers of the CPU."""

import gc

import numpy as np
import pytest
import torch
from tiny_training import CHANNELS, CLASSES, configured, trained

from autoseg.networks import NETWORKS, network_traits
from autoseg.prediction.sliding import predict_logits

SHELF = [
    (name, dimensions, checkpointing)
    for name in NETWORKS
    for dimensions in network_traits(name).dimensions
    for checkpointing in (False, True)[: 1 + network_traits(name).supports_checkpointing]
]


def predicted(state, configuration, device):
    """Logits of a volume that is larger than a tile along one axis."""
    *rest, last = (1, *configuration.patch_size)[-3:]
    image = np.random.default_rng(5).standard_normal((CHANNELS, *rest, last + 5)).astype(np.float32)
    network = state.network.eval()
    network.deep_supervision = False
    return predict_logits([network], image, configuration.tiling, outputs=CLASSES, device=torch.device(device))


@pytest.mark.parametrize(("name", "dimensions", "checkpointing"), SHELF, ids=str)
def test_a_card_trains_and_predicts_what_a_cpu_does(machine, name, dimensions, checkpointing):
    configuration = configured(name, dimensions, {"checkpointing": True} if checkpointing else {})
    on_cpu = trained(configuration, "cpu")
    logits = predicted(on_cpu, configuration, "cpu")
    cards = machine(2)
    state = trained(configuration, "cuda")
    everything = [*state.network.state_dict().values(), *state.averaged.values()]
    assert {tensor.device.type for tensor in everything} == {"cuda"}
    for ours, theirs in zip(state.capture()["network"].values(), on_cpu.network.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(predicted(state, configuration, "cuda"), logits, rtol=1e-3, atol=1e-4)
    assert cards.operations[0] > 100
    del state, everything
    gc.collect()
    assert torch.cuda.memory_allocated() == 0  # nothing lives longer than its training
