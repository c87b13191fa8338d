"""Python functions: their arguments are the options of the commands, and importing them loads nothing heavy."""

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import autoseg
from autoseg.api.building import SHARED, names_of
from autoseg.options import (
    CheckOptions,
    CompareOptions,
    EvaluateOptions,
    ImportModelOptions,
    ImportOptions,
    PlanOptions,
    PredictOptions,
    PretrainOptions,
    ReportOptions,
    RunOptions,
    SliceOptions,
    SubsetOptions,
    TrainOptions,
    VerifyOptions,
)
from autoseg.options.declaring import declared_fields, is_required

FUNCTIONS = {
    autoseg.import_dataset: ImportOptions,
    autoseg.import_model: ImportModelOptions,
    autoseg.check: CheckOptions,
    autoseg.slice_dataset: SliceOptions,
    autoseg.plan: PlanOptions,
    autoseg.subset: SubsetOptions,
    autoseg.pretrain: PretrainOptions,
    autoseg.train: TrainOptions,
    autoseg.run: RunOptions,
    autoseg.learning_curve: RunOptions,
    autoseg.predict: PredictOptions,
    autoseg.evaluate: EvaluateOptions,
    autoseg.compare: CompareOptions,
    autoseg.report: ReportOptions,
    autoseg.verify: VerifyOptions,
}
# Options that a function does not have, with the reason.
ABSENT = {
    "plan": {"explain"},  # prints; the reasons are in the plan
    "train": {"end_with_parent", "explain_scores"},  # of processes; prints
    "evaluate": {"explain_scores"},  # prints
    "compare": {"explain_scores"},  # prints
    "run": {"script", "learning_curve"},  # prints; a function of its own
    "learning_curve": {"script", "discard_probabilities", "cluster", "workers", "scheduler_host"},  # of run
}
HEAVY = {"torch", "numpy", "scipy", "pydantic", "SimpleITK", "matplotlib", "psutil"}


@pytest.mark.parametrize(("function", "kind"), FUNCTIONS.items(), ids=lambda each: each.__name__)
def test_arguments_and_defaults_are_those_of_the_record(function, kind):
    arguments = dict(inspect.signature(function).parameters)
    for field in declared_fields(kind):
        names = names_of(field) & set(arguments)
        if field.name in ABSENT.get(function.__name__, ()):
            assert not names
            continue
        assert len(names) == 1, f"{function.__name__} has {names or 'no argument'} for {field.name}"
        argument = arguments.pop(names.pop())
        if is_required(field) or argument.default is inspect.Parameter.empty:
            continue
        assert argument.default == field.default, field.name
    assert set(arguments) <= set(SHARED)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_the_docstring_explains_every_argument(function):
    for name in inspect.signature(function).parameters:
        assert f"\n    {name}: " in inspect.getdoc(function)


def test_importing_every_module_leaves_every_function_callable():
    for module in pkgutil.walk_packages(autoseg.__path__, "autoseg."):
        if "tracking." not in module.name and module.name.rpartition(".")[2] not in ("__main__", "openvino_network"):
            importlib.import_module(module.name)
    for name in autoseg.__all__:
        assert name == "__version__" or callable(getattr(autoseg, name)), name


def test_importing_the_package_loads_nothing_heavy():
    code = f"import sys, time; import autoseg; assert not {HEAVY} & set(sys.modules); print(time.process_time())"
    best = min(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) for _ in "ab"
    )
    assert best < 1  # a tenth of a second on an idle machine


def test_a_launcher_may_start_the_module_of_old():
    ran = subprocess.run([sys.executable, "-m", "autoseg.train", "--help"], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("usage: autoseg_train ")
    assert ran.stderr == ""
