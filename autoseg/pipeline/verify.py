"""``autoseg_verify``: run the real thing on synthetic data, part by part, and record a verdict for every line."""

from __future__ import annotations

import logging
import platform
import shutil
import textwrap
import time
import traceback
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

import torch

from autoseg.core.devices import choose_device, name_device, name_processor, use_cores
from autoseg.core.errors import AutosegError, PlanError, StorageError
from autoseg.core.parallel import Progress, free_memory_bytes, no_progress
from autoseg.core.records import Verification, VerifiedLine, VerifiedPart
from autoseg.core.runs import RUN, recorded
from autoseg.core.store import Store, check_ours, check_writable, read_record, write_record, write_text
from autoseg.core.text import format_seconds
from autoseg.options import VerifyOptions, command_line
from autoseg.pipeline.verification.parts import Part, list_parts
from autoseg.pipeline.verification.workplace import Scale, Workplace

log = logging.getLogger(__name__)

FOLDER, RECORD, TABLE = "autoseg_verify", "verify.json", "verify.txt"
CPU_SCALE = Scale(scans=2, budgets_gb=(4,))  # a step's arithmetic limits plans for a CPU before memory does
GPU_SCALE = Scale()
WIDTH, NAME_WIDTH, VERDICT_WIDTH = 80, 30, 8
NO_BREAK = "\N{NO-BREAK SPACE}"
REPORT = "this is an error that autoseg does not expect: its traceback is in verify.json; please report it"


def verify(
    store: Store,
    options: VerifyOptions,
    *,
    scale: Scale | None = None,
    make_parts: Callable[[torch.device, tuple[float, ...]], Sequence[Part]] = list_parts,
    progress: Progress = no_progress,
    clock: Callable[[], float] = time.monotonic,
) -> Verification:
    """Run the parts that have not run, then those that failed, until time is up; the record is written after each.

    Args:
        store: its root gets the folder ``autoseg_verify``.
        options: of the command.
        scale: sizes of data; None for those of the device.
        make_parts: device and budgets -> parts.
        progress: of the parts, and of long work in them.
        clock: seconds.

    Raises:
        UsageError: torch sees no such device.
        StorageError: the disk refused a write.
    """
    began = clock()
    device = choose_device(options.device)
    folder = store.root / FOLDER / str(device).replace(":", "_")
    if options.restart and (folder / RECORD).exists():
        shutil.rmtree(folder)
    blank = _describe_machine(device)
    record = _read_earlier(folder, blank)
    check_writable(folder)
    scale = scale or (CPU_SCALE if device.type == "cpu" else GPU_SCALE)
    budgets = tuple(budget for budget in scale.budgets_gb if budget <= max(blank.memory_gb, min(scale.budgets_gb)))
    parts = make_parts(device, budgets)
    place = Workplace(store=Store(folder), device=device, scale=scale, progress=progress)
    fresh = [part for part in parts if part.name not in record.parts]
    failed = [part for part in parts if part.name in record.parts and record.parts[part.name].failed]
    with recorded(store, folder / RUN, ("autoseg_verify", *command_line(options))) as run:
        run.begin()
        run.device = blank.machine
        for done, part in enumerate([*fresh, *failed]):
            if done and clock() - began >= 60 * options.minutes:
                log.info("time is up; the same command runs what is left")
                break
            log.info("verifying %s (%d of %d)", part.name, done + 1, len(fresh) + len(failed))
            result, is_broken = _run(part, place, clock)
            record = _add(record, parts, part.name, result)
            _write(folder, record, parts)
            if is_broken:
                log.error("the GPU reported an error that ends this process; the same command runs what is left")
                break
        _write(folder, record, parts)
        log.info("table: %s", folder / TABLE)
        run.exit_code = int(bool(record.failures))
    return record


def render_verification(record: Verification, parts: Sequence[Part] | None = None) -> str:
    """The table, 80 columns wide: one line per verdict, sentences wrapped, and what has not run.

    Args:
        record: of the parts that have run.
        parts: with their titles; None for those of this machine.
    """
    parts = parts or list_parts(torch.device(record.device), GPU_SCALE.budgets_gb)
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    gpus = f", {record.gpus} GPUs" if record.gpus > 1 else ""
    lines = [
        *textwrap.wrap(f"{record.device}: {record.machine}, {record.memory_gb:.3g} GB{gpus}; {versions}", WIDTH),
        "-" * WIDTH,
    ]
    finished = [part for part in parts if part.name in record.parts]
    for title, group in groupby(finished, key=lambda part: part.title):
        lines.append(title)
        for part in group:
            for line in record.parts[part.name].lines:
                lines += _render_line(line)
    lines.append("-" * WIDTH)
    every = [line.verdict for part in record.parts.values() for line in part.lines]
    seconds = sum(part.seconds for part in record.parts.values())
    lines.append(
        f"{every.count('ok')} ok, {every.count('failed')} failed, {every.count('skipped')} skipped, in "
        f"{format_seconds(seconds)}"
    )
    if record.not_run:
        names = ", ".join(name.replace(" ", NO_BREAK) for name in record.not_run)
        text = textwrap.wrap(f"not run yet ({len(record.not_run)}): {names}", WIDTH, subsequent_indent="  ")
        lines += [row.replace(NO_BREAK, " ") for row in text]
    return "\n".join(lines) + "\n"


def _render_line(line: VerifiedLine) -> list[str]:
    """A verdict with its figures, and below it what to do."""
    name = line.name if len(line.name) < NAME_WIDTH - 1 else f"{line.name[: NAME_WIDTH - 4]}..."
    verdict = "FAILED" if line.verdict == "failed" else line.verdict
    first = f"  {name:<{NAME_WIDTH - 1}}{verdict}"
    indent = " " * (NAME_WIDTH + VERDICT_WIDTH + 1)
    text = textwrap.wrap(line.result, WIDTH - len(indent)) or [""]
    text += textwrap.wrap(f"-> {line.advice}", WIDTH - len(indent)) if line.advice else []
    return [f"{first:<{len(indent)}}{text[0]}".rstrip(), *(f"{indent}{row}" for row in text[1:])]


def _describe_machine(device: torch.device) -> Verification:
    """A record without parts."""
    from autoseg import __version__

    on_gpu = device.type == "cuda"
    memory = torch.cuda.get_device_properties(device).total_memory if on_gpu else free_memory_bytes()
    return Verification(
        device=str(device),
        machine=name_processor(use_cores()) if device.type == "cpu" else name_device(device),
        memory_gb=round(memory / 1e9, 1),
        gpus=torch.cuda.device_count() if torch.cuda.is_available() else 0,
        versions={"autoseg": __version__, "torch": torch.__version__, "Python": platform.python_version()},
    )


def _read_earlier(folder: Path, blank: Verification) -> Verification:
    """The record of earlier calls; a blank one, in an empty folder, if it is of another machine or version."""
    path = folder / RECORD
    if not path.exists():
        return blank
    check_ours(path, '"versions"')
    try:
        earlier = read_record(Verification, path, advice="")
    except PlanError:
        earlier = None
    if earlier is not None and (earlier.machine, earlier.versions) == (blank.machine, blank.versions):
        return earlier
    log.warning("%s is of another machine or version, so everything is verified again", path)
    shutil.rmtree(folder)
    return blank


def _run(part: Part, place: Workplace, clock: Callable[[], float]) -> tuple[VerifiedPart, bool]:
    """Result of a part, and whether the GPU is unusable for this process from here on."""
    began, trace, is_broken = clock(), "", False
    try:
        lines = part.run(place)
    except StorageError:
        raise
    except AutosegError as error:
        lines = [VerifiedLine(name=part.name, verdict="failed", result=str(error), advice="do as the sentence says")]
    except Exception as error:
        trace, is_broken = traceback.format_exc(), isinstance(error, torch.AcceleratorError)
        sentence = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"
        lines = [VerifiedLine(name=part.name, verdict="failed", result=sentence, advice=REPORT)]
    finally:
        if place.device.type == "cuda" and not is_broken:
            torch.cuda.empty_cache()
    return VerifiedPart(seconds=round(clock() - began, 1), lines=tuple(lines), trace=trace), is_broken


def _add(record: Verification, parts: Sequence[Part], name: str, result: VerifiedPart) -> Verification:
    """The record with the result of a part, in the order of the table."""
    results = {**record.parts, name: result}
    return record.model_copy(
        update={
            "parts": {part.name: results[part.name] for part in parts if part.name in results},
            "not_run": tuple(part.name for part in parts if part.name not in results),
        }
    )


def _write(folder: Path, record: Verification, parts: Sequence[Part]) -> None:
    write_record(folder / RECORD, record)
    write_text(folder / TABLE, render_verification(record, parts))
