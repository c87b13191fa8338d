"""autoseg_verify: verdicts, exit codes and resuming; and its parts, with data so small that only causes can be seen."""

import json
from contextlib import suppress
from dataclasses import replace

import pytest
import torch

from autoseg.cli import verify as command
from autoseg.core.errors import MemoryShortageError, StorageError
from autoseg.core.records import Verification, VerifiedLine
from autoseg.core.store import Store, read_record
from autoseg.options import TrainOptions, VerifyOptions
from autoseg.pipeline import verify as verifying
from autoseg.pipeline.train import train
from autoseg.pipeline.verification import memory, numbers, recovery, trainings
from autoseg.pipeline.verification.parts import Part, list_parts
from autoseg.pipeline.verification.prediction import verify_prediction
from autoseg.pipeline.verification.speed import verify_loading
from autoseg.pipeline.verification.workplace import SMALL, Scale, Workplace
from autoseg.pipeline.verify import render_verification, verify

CPU = torch.device("cpu")
TINY = Scale(cases=4, shape=(16, 16, 16), brain=(16, 16, 16), scan=(18, 20, 20), scans=3, learning_s=2, budgets_gb=(4,))
OPTIONS = VerifyOptions(device="cpu")


def good(place):
    return [VerifiedLine(name="a good line", verdict="ok", result="all is well")]


def bad(place):
    advice = "buy another machine, and tell the seller of this one why it went back to the shop"
    return [VerifiedLine(name="a bad line", verdict="failed", result="one is not one", advice=advice)]


def parts_of(**functions):
    parts = [Part(name=name, title="Section", run=function) for name, function in functions.items()]
    return lambda device, budgets: parts


def fail(kind, sentence):
    def run(place):
        raise kind(sentence)

    return run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A workplace whose small dataset is planned on the first use."""
    return Workplace(store=Store(tmp_path_factory.mktemp("verify")), device=CPU, scale=TINY)


def test_a_part_that_fails_ends_the_command_with_one_and_its_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(verifying.verify, "__kwdefaults__", {**verify.__kwdefaults__, "make_parts": parts_of(x=bad)})
    monkeypatch.setattr(verifying, "list_parts", parts_of(x=bad))
    with pytest.raises(SystemExit) as stop:
        command(["--device", "cpu", "--root", str(tmp_path)])
    assert stop.value.code == 1
    out = capsys.readouterr().out
    assert "  a bad line                   FAILED  one is not one" in out
    assert "-> buy another machine, and tell the" in out
    assert max(map(len, out.splitlines())) <= 80
    folder = tmp_path / "autoseg_verify" / "cpu"
    assert (folder / "verify.txt").read_text() == out
    run = json.loads((folder / "run.json").read_text())
    assert (run["command"], run["exit_code"]) == ("autoseg_verify --device cpu", 1)
    assert run["device"] and "verifying x (1 of 1)" in (folder / "run.log").read_text()


def test_an_error_of_the_disk_and_a_success_are_recorded(tmp_path):
    codes = []
    for function in (fail(StorageError, "the disk is full"), good):
        with suppress(StorageError):
            verify(Store(tmp_path), OPTIONS, scale=TINY, make_parts=parts_of(x=function))
        codes.append(json.loads((tmp_path / "autoseg_verify" / "cpu" / "run.json").read_text())["exit_code"])
    assert codes == [2, 0]


def test_a_device_that_is_not_there_is_bad_input(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stop:
        command(["--device", "cuda", "--root", str(tmp_path)])
    assert stop.value.code == 2
    assert "torch sees no GPU" in capsys.readouterr().err


def test_time_ends_between_parts_and_the_next_call_runs_the_rest_and_what_failed(tmp_path):
    ran = []

    def noted(name, function):
        return lambda place: (ran.append(name), function(place))[1]

    functions = {name: noted(name, function) for name, function in {"a": bad, "b": good, "c": good}.items()}
    times = iter([0.0, 0.0, 1.0, 601.0])
    first = verify(Store(tmp_path), OPTIONS, make_parts=parts_of(**functions), clock=lambda: next(times))
    assert (ran, first.not_run) == (["a"], ("b", "c"))
    table = (tmp_path / "autoseg_verify" / "cpu" / "verify.txt").read_text()
    assert "not run yet (2): b, c" in table
    functions["a"] = noted("a", good)
    second = verify(Store(tmp_path), OPTIONS, make_parts=parts_of(**functions))
    assert ran == ["a", "b", "c", "a"]
    assert (list(second.parts), second.failures, second.not_run) == (["a", "b", "c"], (), ())
    verify(Store(tmp_path), OPTIONS, make_parts=parts_of(**functions))
    assert ran == ["a", "b", "c", "a"]
    verify(Store(tmp_path), VerifyOptions(device="cpu", restart=True), make_parts=parts_of(**functions))
    assert ran == ["a", "b", "c", "a", "a", "b", "c"]


def test_a_part_that_is_interrupted_leaves_the_finished_ones(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        verify(Store(tmp_path), OPTIONS, make_parts=parts_of(a=good, b=fail(KeyboardInterrupt, "")))
    record = read_record(Verification, tmp_path / "autoseg_verify" / "cpu" / "verify.json", advice="")
    assert (list(record.parts), record.not_run) == (["a"], ("b",))


def test_results_of_another_machine_do_not_count(tmp_path):
    verify(Store(tmp_path), OPTIONS, make_parts=parts_of(a=good))
    path = tmp_path / "autoseg_verify" / "cpu" / "verify.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "machine": "a faster one"}))
    again = verify(Store(tmp_path), OPTIONS, make_parts=parts_of(a=bad))
    assert again.failures == ("a bad line",)


def test_errors_become_lines_and_a_broken_gpu_ends_the_call(tmp_path):
    functions = {
        "short": fail(MemoryShortageError, "there is no memory; get more"),
        "bug": fail(ZeroDivisionError, "division by zero"),
        "broken": fail(torch.AcceleratorError, "CUDA error: an illegal memory access was encountered"),
        "after": good,
    }
    record = verify(Store(tmp_path), OPTIONS, make_parts=parts_of(**functions))
    assert record.failures == ("short", "bug", "broken")
    assert record.not_run == ("after",)
    assert record.parts["short"].lines[0].result == "there is no memory; get more"
    assert record.parts["bug"].lines[0].result == "ZeroDivisionError: division by zero"
    assert "Traceback" in record.parts["bug"].trace
    assert not record.parts["short"].trace


def test_every_device_has_its_parts_and_every_name_fits_the_table():
    cpu, gpu = list_parts(CPU, (4,)), list_parts(torch.device("cuda"), (4, 8, 16))
    assert len({part.name for part in gpu}) == len(gpu)
    assert {"threads", "openvino"} == {part.name for part in cpu} - {part.name for part in gpu}
    assert sum(part.name.startswith("memory") for part in gpu) == 3 * sum(
        part.name.startswith("memory") for part in cpu
    )


def test_a_training_that_stops_or_is_killed_resumes_to_the_same_weights(place):
    for run in (recovery.verify_stopped, recovery.verify_killed):
        (line,) = run(place)
        assert (line.verdict, line.numbers["difference"]) == ("ok", 0.0), line.result


def test_a_training_that_resumes_to_other_weights_fails(place, monkeypatch):
    def train_with_another_seed(store, options, **hooks):
        return train(store, replace(options, seed=int(options.configuration == "stopped")), **hooks)

    monkeypatch.setattr(recovery, "train", train_with_another_seed)
    for name in ("straight", "stopped"):
        recovery._remove(place, name)
    (line,) = recovery.verify_stopped(place)
    assert line.verdict == "failed"
    assert "--restart" in line.advice


def test_numbers_agree_and_a_difference_fails(place, monkeypatch):
    lines = numbers.verify_numbers(place)
    assert {line.verdict for line in lines} == {"ok"}
    assert any(line.name.startswith("3D") for line in lines)
    losses = iter([[1.0, 1.0], [1.0, 1.01], [1.0, 1.0], [1.0, float("nan")]])
    monkeypatch.setattr(numbers, "_train_on_noise", lambda *_: next(losses))
    assert {line.verdict for line in numbers.verify_numbers(place)[:2]} == {"failed"}


def test_memory_within_the_bounds_passes_and_beyond_them_fails(place, monkeypatch):
    (line,) = memory.verify_memory(place, network="unet", budget_gb=4)
    assert line.verdict == "ok", line.result
    assert line.numbers["3d_measured_gb"] > 0.5
    monkeypatch.setattr(memory, "probe_configuration", lambda *_: 3.0)
    (line,) = memory.verify_memory(place, network="unet", budget_gb=4)
    assert (line.verdict, line.numbers["3d_measured_gb"]) == ("failed", 3.0)
    assert "--memory" in line.advice


def test_masks_of_all_scans_and_rates_of_loading(place):
    (line,) = verify_prediction(place)
    assert line.verdict == "ok", line.result
    assert line.numbers["scans"] == 3
    assert 0 < line.numbers["network_share"] < 1
    assert {line.numbers["cpu_batch_s"] > 0 for line in verify_loading(place)} == {True}


def test_a_training_that_learns_nothing_fails(place, monkeypatch):
    def train_one_step(store, options, **hooks):
        assert options.time_budget_s == TINY.learning_s
        short = TrainOptions(
            dataset=SMALL, configuration=options.configuration, fold="0", epochs=1, steps_per_epoch=1, device="cpu",
            restart=True, postprocessing=False,
        )  # fmt: skip
        return train(store, short, **hooks)

    monkeypatch.setattr(trainings, "train", train_one_step)
    monkeypatch.setattr(trainings, "LEAST_DICE", 0.99)
    (line,) = trainings.verify_learning(place)
    assert line.verdict == "failed"
    assert "bound 0.99" in line.result


def test_the_table_of_a_long_name_keeps_its_columns():
    line = VerifiedLine(name="a name that is much longer than its column", verdict="ok", result="w " * 60)
    record = Verification(device="cpu", machine="CPU", memory_gb=1, gpus=0, versions={})
    record = record.model_copy(update={"parts": {"a": verifying.VerifiedPart(seconds=0, lines=(line,))}})
    table = render_verification(record, parts_of(a=good)(CPU, ()))
    assert max(map(len, table.splitlines())) <= 80
    assert "  a name that is much longer ..." not in table.splitlines()[0]
    assert "1 ok, 0 failed, 0 skipped" in table
