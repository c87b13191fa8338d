"""A trained network as OpenVINO computes it on a CPU; the only file that knows OpenVINO."""

from __future__ import annotations

import importlib.util
import warnings

import torch
from torch import nn


def is_installed() -> bool:
    """Whether the package openvino can be imported."""
    return importlib.util.find_spec("openvino") is not None


class OpenvinoNetwork(nn.Module):
    """The finest logits of a network, computed by OpenVINO in float32; under the contract of a network.

    It is converted by OpenVINO's front end itself: its ``convert_model`` would report the use of it over the internet.

    Args:
        network: in evaluation mode, on the CPU.
        example: (1,C,*tile) float32; its axes but for the first are those of every later input.

    Raises:
        RuntimeError: OpenVINO cannot compute a layer of it.
    """

    def __init__(self, network: nn.Module, example: torch.Tensor) -> None:
        super().__init__()
        from openvino.frontend import FrontEndManager, OpConversionFailure
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of shapes that are taken as fixed, which they are
            traced = torch.jit.trace(_Finest(network), example, check_trace=False)
        frontend = FrontEndManager().load_by_framework("pytorch")
        # With weights of its own, the graph outlives everything that it was made from, in whatever order that goes.
        decoder = TorchScriptPythonDecoder(traced, shared_memory=False)
        try:
            self.graph = frontend.convert(frontend.load(decoder))
        except OpConversionFailure as error:  # which is no RuntimeError
            raise RuntimeError(str(error)) from error
        self.compiled: dict[tuple[int, ...], object] = {}  # by shape: fixed shapes are faster than open ones

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B,C,*tile) float32 on the CPU -> a list of one, (B,K,*tile) float32."""
        shape = tuple(x.shape)
        if shape not in self.compiled:
            self.compiled[shape] = self._compile(shape)
        logits = self.compiled[shape](x.contiguous().numpy())[0]  # type: ignore[operator]
        return [torch.from_numpy(logits.copy())]

    def _compile(self, shape: tuple[int, ...]) -> object:
        import openvino

        self.graph.reshape(list(shape))
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # half types would change results beyond rounding
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        return openvino.compile_model(self.graph, "CPU", settings)


class _Finest(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)[0]
