"""Parsers: made from the records; what is mistyped, or nnU-Net's, is answered with our word for it."""

import re

import pytest

from autoseg.cli import COMMANDS, evaluate, plan, predict, train
from autoseg.cli.nnunet_words import ANSWERS
from autoseg.options.declaring import declared_fields, option_of


@pytest.fixture
def refuse(capsys):
    """Run a command that fails; gives what it wrote on standard error."""

    def refuse(command, *argv):
        with pytest.raises(SystemExit) as stop:
            command(argv)
        assert stop.value.code == 2
        return capsys.readouterr().err

    return refuse


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_help_shows_every_flag_of_the_record(command):
    text = command.parser().format_help()
    for field in declared_fields(command.options):
        for flag in option_of(field).flags:
            assert re.search(rf"{flag}\b", text), flag


@pytest.mark.parametrize(
    ("flag", "nearest"), [("--epoch", "--epochs"), ("--timebudget", "--time-budget"), ("--sede=3", "--seed")]
)
def test_a_mistyped_option_is_answered_with_the_nearest(refuse, flag, nearest):
    err = refuse(train, "-d", "Tiny", "-c", "3d", "-f", "0", flag)
    assert err == (
        f"autoseg_train: error: unknown option {flag.partition('=')[0]} (did you mean {nearest}?); "
        f"see autoseg_train --help\n"
    )


@pytest.mark.parametrize(
    ("command", "flag", "answer"),
    [
        (predict, "--disable_tta", "use --no-mirror"),
        (predict, "--save_probabilities", "use --probabilities"),
        (predict, "--continue_prediction", "the same command resumes"),
        (predict, "-step_size", "use --step"),
        (predict, "-chk", "the weights of the finished training are used"),
        (predict, "-npp", "chosen from cores and memory"),
        (predict, "-p", "one dataset has one plan"),
        (train, "--npz", "use --probabilities"),
        (train, "--c", "the same command resumes"),
        (train, "-num_gpus", "use --devices"),
        (train, "-tr", "there are no trainer classes"),
        (plan, "--verify_dataset_integrity", "always checks every case"),
        (plan, "-c", "every configuration is planned"),
    ],
)
def test_an_option_of_nnunet_is_answered_in_one_line(refuse, command, flag, answer):
    err = refuse(command, flag, "1")
    assert err.startswith(f"{command.script}: error: {flag} is an option of nnU-Net's; ")
    assert answer in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("answer", sorted(set(ANSWERS.values())))
def test_every_option_named_in_an_answer_exists(answer):
    known = {
        flag for command in COMMANDS.values() for action in command.parser()._actions for flag in action.option_strings
    }
    assert set(re.findall(r"--[a-z-]+", answer)) <= known


def test_a_configuration_of_nnunet_is_answered_with_ours(refuse, planned):
    err = refuse(train, "-d", "Tiny", "-c", "3d_fullres", "-f", "0", "--root", str(planned))
    assert err.rstrip().endswith("; nnU-Net's 3d_fullres is named 3d here")


def test_a_value_that_begins_with_a_minus_is_no_option(refuse):
    err = refuse(train, "-d", "Tiny", "-c", "3d", "-f", "0", "--seed", "-3", "--epochs", "none")
    assert "argument --epochs: invalid integer 'none'" in err


def test_options_that_exclude_each_other_are_refused(refuse):
    err = refuse(evaluate, "-p", "masks", "-r", "labels", "-d", "Tiny")
    assert "argument -d/--dataset: not allowed with argument -r/--references" in err
