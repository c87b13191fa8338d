"""The way from the command line to the network is short enough to be read."""

import traceback
from pathlib import Path

from torch.nn.modules.module import register_module_forward_pre_hook

import autoseg

PACKAGE = Path(autoseg.__file__).parent


def test_eight_functions_lie_between_the_command_line_and_the_network(run, planned):
    stacks = []

    def note(module, inputs):
        if module.training and not stacks:
            stacks.append(traceback.extract_stack())

    hook = register_module_forward_pre_hook(note)
    try:
        argv = ("-d", "Tiny", "-c", "3d", "-f", "all", "--epochs", 1, "--steps-per-epoch", 1, "--device", "cpu")
        assert run("train", *argv, "--root", planned)[0] == 0
    finally:
        hook.remove()
    files = [(Path(frame.filename), frame.name) for frame in stacks[0] if PACKAGE in Path(frame.filename).parents]
    functions = [name for file, name in files if file.parent.name != "networks"]
    assert functions[-2:] == ["train_fold", "training_step"]
    assert len(functions) <= 8, functions
