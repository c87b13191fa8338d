"""OpenVINO on a CPU; the only file that imports it."""

from __future__ import annotations

import importlib.util
import warnings

import torch
from torch import nn


def is_installed() -> bool:
    """Whether the package openvino can be imported."""
    return importlib.util.find_spec("openvino") is not None


class OpenvinoNetwork(nn.Module):
    """A network whose finest logits OpenVINO computes in float32; called like the original.

    It is converted by OpenVINO's front end directly, because ``convert_model`` sends telemetry over the internet.

    Args:
        network: in evaluation mode, on the CPU.
        example: (1,C,*tile) float32; later inputs differ in the first axis only.

    Raises:
        RuntimeError: OpenVINO does not support one of its layers.
    """

    def __init__(self, network: nn.Module, example: torch.Tensor) -> None:
        super().__init__()
        from openvino.frontend import FrontEndManager, OpConversionFailure
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # shapes become constants, as intended
            traced = torch.jit.trace(_Finest(network), example, check_trace=False)
        frontend = FrontEndManager().load_by_framework("pytorch")
        # With its own copy of the weights the graph outlives the trace, in any order of deletion.
        decoder = TorchScriptPythonDecoder(traced, shared_memory=False)
        try:
            self.graph = frontend.convert(frontend.load(decoder))
        except OpConversionFailure as error:  # not a RuntimeError
            raise RuntimeError(str(error)) from error
        self.compiled: dict[tuple[int, ...], object] = {}  # by shape: fixed shapes are faster than dynamic ones

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
            "INFERENCE_PRECISION_HINT": "f32",  # half precision would change results beyond rounding
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
