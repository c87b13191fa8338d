"""The docs name what there is, link to what there is, and show commands that parse."""

import argparse
import importlib
import re
import shlex
import tomllib
import types
import typing
from pathlib import Path

import pytest

from autoseg.core.records import Plan, Record
from autoseg.datasets import IMPORTERS
from autoseg.losses import LOSSES
from autoseg.metrics import METRICS
from autoseg.networks import NETWORKS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
del SCRIPTS["autoseg"]  # autoseg COMMAND is autoseg_COMMAND
HEADINGS = {"": "Keys of the plan", "configurations": "A configuration"}  # every other record stands under its own key


class ParserAsked(Exception):
    """Carries a command's parser out before anything is done."""

    def __init__(self, parser):
        self.parser = parser


def find_parser(command):
    """The real parser of a command, which is not run."""

    def stop(parser, argv):
        raise ParserAsked(parser)

    module, _, function = SCRIPTS[command].partition(":")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ParserAsked) as asked:
        patch.setattr(argparse.ArgumentParser, "parse_intermixed_args", stop)
        getattr(importlib.import_module(module), function)([])
    return asked.value.parser


def split_sections(page):
    """Heading without backticks -> the text up to the next heading of any level; code blocks hold no headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    parts = re.split(r"^#+ +(.+)$", text, flags=re.M)
    return {heading.replace("`", "").strip(): body for heading, body in zip(parts[1::2], parts[2::2], strict=True)}


def nested_records(kind, prefix=""):
    """(dotted key without configuration names, record class) of a record and of all records inside it."""
    yield prefix, kind
    for name, field in kind.model_fields.items():
        for inner in record_classes(field.annotation):
            below = prefix if prefix != "configurations" else ""
            yield from nested_records(inner, f"{below}.{name}".strip("."))


def record_classes(annotation):
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, Record) else []
    return [found for argument in typing.get_args(annotation) for found in record_classes(argument)]


def code_blocks(page):
    return re.findall(r"^```\w*\n(.*?)^```", page.read_text(), flags=re.M | re.S)


def shown_commands():
    """(page, command line) of every autoseg command in a fenced block."""
    for page in PAGES:
        for block in code_blocks(page):
            for line in block.replace("\\\n", " ").splitlines():
                shown = line.removeprefix("$ ")
                if re.match(r"autoseg(_\w+| [a-z]\S*)( |$)", shown):
                    yield page.name, shown


PLANNED = list(nested_records(Plan))
COMMANDS = list(shown_commands())


def test_records_are_found_where_the_plan_holds_them():
    keys = {key for key, _ in PLANNED}
    assert {"", "configurations", "preprocessing", "preprocessing.channels", "network", "tiling"} <= keys


@pytest.mark.parametrize(("key", "kind"), PLANNED, ids=lambda value: getattr(value, "__name__", value or "plan"))
def test_every_field_of_the_plan_is_documented(key, kind):
    sections = split_sections(DOCS / "plan.md")
    heading = HEADINGS.get(key, key)
    assert heading in sections, f"docs/plan.md has no heading '{heading}' for {kind.__name__}"
    rows = set(re.findall(r"^\| `(\w+)` \|", sections[heading], flags=re.M))
    fields = {field.alias or name for name, field in kind.model_fields.items()}
    assert fields - rows == set(), f"docs/plan.md, '{heading}': these fields have no row"


@pytest.mark.parametrize("command", SCRIPTS)
def test_every_option_is_documented(command):
    sections = split_sections(DOCS / "commands.md")
    assert command in sections, f"docs/commands.md has no heading '{command}'"
    options = {
        option for line in find_parser(command).format_help().splitlines() for option in re.findall(r"--[a-z-]+", line)
    }
    assert "--help" in options
    shown = set(re.findall(r"--[a-z-]+", sections["Common to all"] + sections[command]))
    assert options - shown == set(), f"docs/commands.md, '{command}': these options are missing"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_resolves(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in {make_anchor(heading) for heading in split_sections(linked)}, f"{page.name}: {target}"


def make_anchor(heading):
    """A heading's anchor as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize(
    ("table", "page"),
    [(METRICS, "scores.md"), (IMPORTERS, "datasets.md"), (NETWORKS, "plan.md"), (LOSSES, "plan.md")],
    ids=["metrics", "importers", "networks", "losses"],
)
def test_every_name_of_a_table_is_documented(table, page):
    shown = set(re.findall(r"`(\w+)`", (DOCS / page).read_text()))
    assert set(table.entries) - shown == set(), f"docs/{page} does not name these"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_machine_path_is_shown(page):
    for word in ("/work", "../shared", "/tmp"):
        assert word not in page.read_text(), f"{page.name} mentions {word}"


def test_commands_are_shown():
    assert {line.split()[0] for _, line in COMMANDS} - {"autoseg"} == set(SCRIPTS)


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[line for _, line in COMMANDS])
def test_every_shown_command_parses(page, line, capsys):
    command, *argv = shlex.split(line, comments=True)
    if command == "autoseg":
        name, *argv = argv
        if name == "completion":
            return
        command = f"autoseg_{name.replace('-', '_')}"
    assert command in SCRIPTS, f"{page} shows {command}, which is not a command"
    try:
        find_parser(command).parse_args(argv)
    except SystemExit as stop:
        if stop.code == 0:  # it prints and ends, as --help does
            return
        pytest.fail(f"{page}: {capsys.readouterr().err.strip().splitlines()[-1]}")


# Every command of nnU-Net v2 with its options, from its argument parsers.
NNUNET = """
plan_and_preprocess -d -fpe -npfp --verify_dataset_integrity --no_pp --clean -pl -gpu_memory_target -preprocessor_name
    -overwrite_target_spacing -overwrite_plans_name -c -np --verbose --no_pbar
extract_fingerprint -d -fpe -np --verify_dataset_integrity --clean --verbose --no_pbar
plan_experiment -d -pl -gpu_memory_target -preprocessor_name -overwrite_target_spacing -overwrite_plans_name --verbose
    --no_pbar
preprocess -d -plans_name -c -np --verbose --no_pbar
train -tr -p -pretrained_weights -num_gpus --npz --c --val --val_best --disable_checkpointing -device
predict -i -o -d -p -tr -c -f -step_size --disable_tta --verbose --save_probabilities --continue_prediction --c -chk
    -npp -nps -prev_stage_predictions -num_parts -part_id -device --disable_progress_bar --not_on_device
predict_from_modelfolder -i -o -m -f -step_size --disable_tta --verbose --save_probabilities --continue_prediction --c
    -chk -npp -nps -prev_stage_predictions -device --disable_progress_bar --not_on_device
find_best_configuration -p -c -tr -np -f --disable_ensembling --no_overwrite
determine_postprocessing -i -ref -plans_json -dataset_json -np --remove_postprocessed
apply_postprocessing -i -o -pp_pkl_file -np -plans_json -dataset_json
ensemble -i -o -np --save_npz
accumulate_crossval_results -c -o -f -p -tr
evaluate_folder -djfile -pfile -o -np --chill
evaluate_simple -l -il -o -np --chill
plot_overlay_pngs -d -o -np -channel_idx --use_raw -p -c -overlay_intensity
convert_MSD_dataset -i -overwrite_id -np
convert_old_nnUNet_dataset
move_plans_between_datasets -s -t -sp -tp
export_model_to_zip -d -o -c -tr -p -f -chk --not_strict --exp_cv_preds
install_pretrained_model_from_zip
download_pretrained_model_by_url
"""


def test_every_command_and_option_of_nnunet_is_in_its_table():
    sections = split_sections(DOCS / "nnunet.md")
    for line in NNUNET.replace("\n    ", " ").split("\n")[1:-1]:
        command, *options = line.split()
        assert f"[`nnUNetv2_{command}`]" in sections["Commands and options"]
        body = sections[f"nnUNetv2_{command}"]
        assert set(options) - set(re.findall(r"`(--?\w+)", body)) == set(), f"nnUNetv2_{command} lacks options"


def test_every_command_and_option_of_ours_in_the_tables_of_nnunet_exists():
    count = 0
    for heading, body in split_sections(DOCS / "nnunet.md").items():
        answers = re.findall(r"^\|.+\|(.+)\|$", body, flags=re.M)
        commands = re.findall(r"`(autoseg_(?!results|raw|preprocessed)\w+)", body)
        known = {flag for command in commands for flag in find_parser(command)._option_string_actions}
        for span in re.findall(r"`([^`]+)`", body):
            command, *words = shlex.split(span)
            if command in commands:
                flags = {word for word in words if word.startswith("-")}
                assert flags <= set(find_parser(command)._option_string_actions), f"{heading}: {span}"
        if heading == "Commands and options" or not commands:
            continue
        for span in re.findall(r"`(--?[a-z][^`]*)`", " ".join(answers)):
            assert span.split()[0] in known, f"{heading}: {span}"
            count += 1
    assert count > 50
