"""The terminal: a live line where there is a screen, few lines where there is none, tables that fit."""

import io
import logging
import os

import pytest

from autoseg import terminal as module
from autoseg.core.text import align_columns, fit_text
from autoseg.terminal import Terminal


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def open_screen(monkeypatch):
    """Makes standard error a terminal of 80 columns; a call, because pytest sets the stream after the fixtures."""

    def call():
        stream = Screen()
        monkeypatch.setattr(module.sys, "stderr", stream)
        monkeypatch.setattr(module.shutil, "get_terminal_size", lambda *_, **__: os.terminal_size((80, 24)))
        return stream

    return call


def test_a_screen_shows_at_once_that_the_command_runs(open_screen):
    screen = open_screen()
    Terminal(quiet=False).begin("autoseg predict")
    assert screen.getvalue() == "\r\x1b[Kautoseg predict: starting"


def test_a_screen_shows_steps_share_loss_and_the_time_left(open_screen, clock):
    screen = open_screen()
    terminal = Terminal(quiet=False)
    for done in range(251):
        clock[0] = done * 0.5
        terminal.progress(done, 10_000, "training steps, epoch 1, loss 0.4123, best Dice 0.710")
    line = screen.getvalue().rpartition("\x1b[K")[2]
    assert line.startswith("training steps: 250 of 10,000, 2 %, epoch 1, loss 0.4123, best Dice 0.710, 1 h")
    assert len(line) < 80  # a longer one would wrap, and could not be removed


def test_cases_of_one_task_are_shown_as_they_come(open_screen, clock):
    screen = open_screen()
    terminal = Terminal(quiet=False)
    for done in range(1, 4):
        clock[0] = done * 2.0
        terminal.progress(done, 5, f"importing, p{done} done")
        assert f"importing: {done} of 5, {20 * done} %, p{done} done" in screen.getvalue()


def test_a_pipe_gets_few_lines_without_control_characters(capsys, clock):
    terminal = Terminal(quiet=False)
    terminal.begin("autoseg train")
    for second in range(4 * 3600):
        clock[0] = float(second)
        terminal.progress(second, 4 * 3600, "training seconds, step 3")
    lines = capsys.readouterr().err.splitlines()
    assert 60 < len(lines) < 140
    assert not [character for line in lines for character in line if ord(character) < 32]


def test_a_quiet_terminal_still_lets_a_log_file_have_everything(capsys):
    Terminal(quiet=True)
    log = logging.getLogger("autoseg.trial")
    assert log.isEnabledFor(logging.INFO)
    log.info("measuring")
    log.warning("left out a case")
    assert capsys.readouterr().err.endswith("warning: left out a case\n")


def test_results_know_the_screen_they_go_to(monkeypatch, capsys):
    assert Terminal(quiet=False).width is None  # captured, like a pipe
    monkeypatch.setattr(module.sys, "stdout", Screen())
    monkeypatch.setattr(module.shutil, "get_terminal_size", lambda *_, **__: os.terminal_size((120, 24)))
    assert Terminal(quiet=False).width == 120


@pytest.mark.parametrize("width", [20, 80, 120])
def test_a_table_fits_the_screen_and_loses_nothing(width):
    rows = [["name", *(f"column {n}" for n in range(12))], ["lesion", *(f"{n}.123 mm" for n in range(12))]]
    lines = align_columns(rows, width=width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert all(cell in text for row in rows for cell in row)
    assert text.count("lesion") == len([line for line in lines if line.startswith("name")])


def test_a_table_without_a_screen_has_one_block():
    rows = [["name", *(f"column {n}" for n in range(40))], ["lesion", *(str(n) for n in range(40))]]
    assert len(align_columns(rows)) == 3
    assert fit_text(["a " * 200], None) == ["a " * 200]
    assert max(map(len, fit_text(["a " * 200], 80))) <= 80
