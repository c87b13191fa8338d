"""The terminal: a live line where there is a screen, few lines where there is none, tables that fit."""

import io
import logging
import os
import sys
import types

import pytest

from autoseg import terminal as module
from autoseg.api.building import shown
from autoseg.core.parallel import no_progress
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
    assert screen.getvalue() == "\rautoseg predict: starting"


def test_a_screen_shows_steps_share_loss_and_the_time_left(open_screen, clock):
    screen = open_screen()
    terminal = Terminal(quiet=False)
    for done in range(251):
        clock[0] = done * 0.5
        terminal.progress(done, 10_000, "training steps, epoch 1, loss 0.4123, best Dice 0.710")
    line = screen.getvalue().rpartition("\r")[2]
    assert line.startswith("training steps: 250 of 10,000, 2 %, epoch 1, loss 0.4123, best Dice 0.710, 1 h")
    assert len(line) < 80  # a longer one would wrap, and could not be removed


def rendered(text, width=80):
    """Rows of a screen that knows carriage returns and line ends alone."""
    rows = []
    for line in text.split("\n"):
        row = [" "] * width
        for part in line.split("\r"):
            row[: len(part)] = part
        rows.append("".join(row).rstrip())
    return rows


def test_a_live_line_leaves_nothing_behind(open_screen, clock):
    screen = open_screen()
    terminal = Terminal(quiet=False)
    terminal.begin("autoseg train")
    terminal.progress(1, 10, "a task with a long name, and more of it")
    clock[0] = 1.0
    terminal.progress(2, 10, "b")
    assert rendered(screen.getvalue()) == ["b: 2 of 10, 20 %"]
    logging.getLogger("autoseg").info("measured")
    terminal.progress(10, 10, "b")
    assert rendered(screen.getvalue())[1:] == [""]
    assert rendered(screen.getvalue())[0].endswith(" measured")
    assert "b:" not in rendered(screen.getvalue())[0]
    assert not [character for character in screen.getvalue() if ord(character) < 32 and character not in "\r\n"]


class Kernel(types.ModuleType):
    """IPython with a kernel, as far as a line of progress needs it; ``outputs`` holds what a cell shows."""

    def __init__(self):
        super().__init__("IPython")
        self.outputs = {}
        self.display = types.ModuleType("IPython.display")
        self.display.display = self.show

    def get_ipython(self):
        return types.SimpleNamespace(kernel=self)

    def show(self, content, *, raw, display_id):
        key = len(self.outputs)
        self.outputs[key] = content["text/plain"]
        update = lambda content, *, raw: self.outputs.update({key: content["text/plain"]})  # noqa: E731
        return types.SimpleNamespace(update=update)


@pytest.fixture
def kernel(monkeypatch):
    kernel = Kernel()
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    monkeypatch.setitem(sys.modules, "IPython.display", kernel.display)
    return kernel


def test_a_notebook_shows_one_line_that_is_replaced(kernel, clock, capsys):
    progress = shown(None)
    for done in range(4):
        clock[0] = done * 2.0
        progress(done, 4, f"importing, p{done} done")
        assert kernel.outputs[0].startswith(f"importing: {done} of 4, {25 * done} %, p{done} done")
        assert kernel.outputs[0].isprintable()
    progress(4, 4, "importing")
    assert kernel.outputs == {0: ""}
    assert capsys.readouterr().err == ""


def test_without_a_notebook_or_with_a_callback_no_line_is_shown(kernel, monkeypatch):
    def callback(done, total, what):
        """Nothing."""

    assert shown(callback) is callback
    monkeypatch.setattr(kernel, "get_ipython", types.SimpleNamespace)  # IPython on a terminal
    assert shown(None) is no_progress
    monkeypatch.delitem(sys.modules, "IPython")
    assert shown(None) is no_progress


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
