"""The memory estimate against what really lives, and numbers worked by hand."""

from functools import cache

import pytest
import torch
from test_networks_contract import NETWORKS_IN_2D_AND_3D, ON_ENCODERS, settings
from torch import nn
from torch.profiler import ProfilerActivity, profile

from autoseg.core.errors import PlanError
from autoseg.networks import NETWORKS, build_network, fit_settings, network_traits
from autoseg.networks.memory import estimate_training_memory, measure_step, stand_in_loss
from autoseg.networks.metering import Meter

PATCH = (8, 16, 24)
# With fewer channels the CPU's kernels fill them up to 8, in workspaces that no GPU needs.
FEATURES = (8, 16, 32)


def size(name, dimensions):
    """Voxels per axis."""
    return (64, 96) if name in ON_ENCODERS else PATCH[-dimensions:]


def fitted(name="unet", dimensions=3, **changes):
    if name == "unetr":
        changes["options"] = {"layers": 3, **changes.get("options", {})}
    planned = settings(name, dimensions, **{"features": FEATURES, **changes})
    return fit_settings(planned, dimensions=dimensions, patch=size(name, dimensions))


def estimate(planned=None, dimensions=3, **changes):
    planned = planned or fitted(dimensions=dimensions)
    patch = changes.pop("patch", size(planned.name, dimensions))
    values = {"output_channels": 3, "optimiser": "sgd", "half": False} | changes
    return estimate_training_memory(planned, (values.pop("batch", 2), 2, *patch), **values)


@cache
def usual(name="unet", dimensions=3):
    """What several tests compare with."""
    return estimate(fitted(name, dimensions), dimensions)


class Training:
    """A real network on the CPU and the steps it takes."""

    def __init__(self, planned, dimensions):
        self.network = build_network(planned, dimensions=dimensions, input_channels=2, output_channels=3, seed=1)
        self.image = torch.randn(2, 2, *size(planned.name, dimensions))
        self.target = torch.zeros(2, *size(planned.name, dimensions), dtype=torch.int16)
        # As on a GPU: all weights at once.
        self.optimiser = torch.optim.SGD(
            self.network.parameters(), 1e-3, momentum=0.9, weight_decay=1e-5, nesterov=True, foreach=True
        )
        self.step()
        self.optimiser.zero_grad()

    def step(self):
        self.optimiser.zero_grad()
        outputs = self.network(self.image)
        loss = stand_in_loss(outputs, self.target)
        loss.backward()
        self.optimiser.step()

    def held(self):
        momenta = [state["momentum_buffer"] for state in self.optimiser.state.values()]
        return [*self.network.parameters(), *self.network.buffers(), *momenta, self.image, self.target]


@pytest.mark.parametrize(
    ("name", "dimensions"),
    [pair for pair in NETWORKS_IN_2D_AND_3D if pair[1] == 3 or pair[0] in ("unet", *ON_ENCODERS)],
)
def test_the_estimate_is_what_lives_at_once_in_a_real_step(name, dimensions):
    predicted = usual(name, dimensions)
    training = Training(fitted(name, dimensions), dimensions)
    meter = Meter()
    meter.hold(training.held())
    with meter:
        training.step()
    assert predicted.total - predicted.workspace == pytest.approx(meter.peak, rel=0.1)


@pytest.fixture
def one_thread():
    """Kernels of the CPU take workspace for every thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", NETWORKS.names())
@pytest.mark.usefixtures("one_thread")
def test_the_estimate_is_what_the_allocator_gives_out(name):
    dimensions = 2 if name in ON_ENCODERS else 3
    predicted = usual(name, dimensions)
    training = Training(fitted(name, dimensions), dimensions)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        training.step()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = sum(tensor.nbytes for tensor in training.held())
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    # Kernels of the CPU may take some workspace of their own.
    assert predicted.total - predicted.workspace == pytest.approx(peak, rel=0.1, abs=1e6)


@pytest.mark.parametrize("name", ["unet", "segresnet", "swin_unetr"])
def test_mixed_precision_is_estimated_as_it_is(name):
    planned = fitted(name)
    training = Training(planned, 3)
    step = measure_step(training.network, training.image, training.target, half=True)
    predicted = estimate(planned, half=True)
    momentum = sum(weight.nbytes for weight in training.network.parameters())
    optimiser_peak = step.left + momentum
    real = max(step.meter.peak_with_workspace, optimiser_peak) + momentum
    assert predicted.total == pytest.approx(real, rel=0.02)


@pytest.mark.parametrize("name", [name for name in NETWORKS if network_traits(name).supports_checkpointing])
def test_checkpointing_saves_activations_and_costs_arithmetic(name):
    before, slim = usual(name), estimate(fitted(name, options={"checkpointing": True}))
    assert slim.activations_peak < 0.9 * before.activations_peak
    assert before.step_flops < slim.step_flops <= before.step_flops + before.forward_flops


def test_the_total_is_the_sum_of_its_parts():
    made = usual()
    parts = (made.parameters, made.gradients, made.optimiser_state, made.activations_peak, made.workspace)
    assert made.total == sum(parts)


def test_memory_grows_by_the_same_with_every_sample():
    one, two, three = (estimate(batch=n).total for n in (4, 5, 6))
    assert three - two == two - one > 0


def test_two_moments_cost_one_copy_of_the_weights_more_than_momentum():
    sgd, adam, adamw, muon = (estimate(optimiser=name) for name in ("sgd", "adam", "adamw", "muon"))
    assert adam.total - sgd.total == sgd.parameters
    assert adamw == adam == muon


def test_averaged_weights_cost_one_copy_more():
    assert estimate(averaged=True).total - usual().total == usual().parameters


def test_in_parts_the_gradients_of_the_first_are_there_while_the_second_is_computed():
    training = Training(fitted(), 3)
    meter = Meter()
    meter.hold(training.held())
    with meter:
        training.optimiser.zero_grad()
        for _ in range(2):
            stand_in_loss(training.network(training.image), training.target).backward()
        training.optimiser.step()
    predicted = estimate(accumulated=True)
    assert predicted.total - predicted.workspace == pytest.approx(meter.peak, rel=0.05)
    assert predicted.total > usual().total


def test_half_precision_and_fewer_heads_need_less():
    assert estimate(half=True).activations_peak < 0.75 * usual().activations_peak
    assert estimate(fitted(deep_supervision=False)).total < usual().total


def test_prediction_needs_less_than_training():
    assert usual().prediction_peak < usual().total / 3


def test_an_estimate_needs_no_memory_of_its_own():
    terabyte = estimate(patch=(1024, 1024, 1024), batch=8)
    assert terabyte.total > 1e12


def test_the_global_stream_is_left_alone():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    estimate()
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_patch_that_the_network_cannot_take_is_refused():
    with pytest.raises(PlanError, match=r"cannot take \(9, 16, 24\) voxels; use multiples of \(2, 4, 4\)"):
        estimate(patch=(9, 16, 24))


def test_parameters_are_counted_by_hand():
    planned = settings(
        dimensions=2, features=(2, 3), kernels=((3, 3),) * 2, strides=((1, 1), (2, 2)), encoder_blocks=(1, 1),
        decoder_blocks=(1,),
    )  # fmt: skip
    # Weights, bias and two of the norm: 2*2*9+6, 2*3*9+9; up 3*2*4+2; decoder 4*2*9+6; head 2*3+3.
    numbers = 42 + 63 + 26 + 78 + 9
    assert estimate(planned, 2, patch=(4, 6)).parameters == 4 * numbers
    # Two operations per tap: 24 and 6 voxels; a transposed convolution has one tap per output voxel and channel in.
    taps = 24 * 2 * 18 + 6 * 3 * 18 + 24 * 2 * 3 + 24 * 2 * 36 + 24 * 3 * 2
    assert estimate(planned, 2, patch=(4, 6), batch=1).forward_flops == 2 * taps


@pytest.mark.parametrize(("layer", "forward"), [
    (nn.Conv2d(6, 6, 3, padding=1, groups=6), 2 * 20 * 6 * 9),  # depthwise
    (nn.Conv2d(6, 4, 3, padding=1, groups=2), 2 * 20 * 4 * 9 * 3),
    (nn.ConvTranspose2d(6, 4, 2, stride=2), 2 * 20 * 6 * 4 * 4),
])  # fmt: skip
def test_a_step_of_grouped_convolutions_costs_three_forward_passes(layer, forward):
    meter = Meter()
    with meter:
        layer(torch.zeros(1, 6, 4, 5, requires_grad=True)).sum().backward()
    assert meter.flops == 3 * forward


def test_attention_is_counted_by_hand():
    def flops(layers):
        planned = fitted("unetr", options={"layers": layers})
        return estimate(planned, batch=1).forward_flops

    tokens, width = 4 * 4 * 6, FEATURES[-1]
    # Query, key, value and output: 4 width^2; two layers of 4 x width: 8 width^2; scores and their use: 2 tokens width.
    assert flops(3) - flops(2) == 2 * tokens * (12 * width**2 + 2 * tokens * width)


def test_a_storage_counts_once_from_birth_to_death():
    with Meter() as meter:
        first = torch.zeros(1000)
        second = first.view(10, 100) + 1
        assert meter.live == 8000
        del first
        third = second[:5]  # a view
        assert meter.live == 4000
        third.mul_(2)
        fourth = second.sum(0)
        assert meter.live == 4400
        del second, third
    assert meter.live == 400  # the sum is left
    assert meter.peak == 8000
    del fourth
