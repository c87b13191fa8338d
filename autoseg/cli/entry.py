"""``autoseg COMMAND ...``: all commands behind one name."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from autoseg.cli.commands import COMMANDS
from autoseg.cli.completion import SHELLS, render_completion

COMPLETION = f"print the completion script of a shell: {', '.join(SHELLS)}"


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """``autoseg``: run a command, or list them."""
    words = sys.argv[1:] if argv is None else list(argv)
    name, rest = (words[0], words[1:]) if words else ("--help", [])
    if name in COMMANDS:
        COMMANDS[name](rest, prog=f"autoseg {name}")
    if name in ("-h", "--help"):
        sys.stdout.write(render_commands())
    elif name == "--version":
        from autoseg import __version__

        sys.stdout.write(f"autoseg {__version__}\n")
    elif name == "completion" and len(rest) == 1 and rest[0] in SHELLS:
        sys.stdout.write(render_completion(rest[0], COMMANDS.values()))
    elif name == "completion":
        _refuse(f"name a shell: autoseg completion {{{','.join(SHELLS)}}}")
    else:
        from autoseg.core.registry import unknown_name

        _refuse(unknown_name("command", name, [*COMMANDS, "completion"]))
    sys.exit(0)


def render_commands() -> str:
    """The list of commands, one line each."""
    titles = {command.name: command.title for command in COMMANDS.values()}
    titles["completion"] = COMPLETION
    lines = [f"  {name:<13} {title}" for name, title in titles.items()]
    return (
        "usage: autoseg COMMAND [OPTIONS]\n\n"
        "Self-configuring segmentation of brain lesions in MRI.\n\n"
        "commands:\n" + "\n".join(lines) + "\n\n"
        "options:\n"
        "  -h, --help    show this list; autoseg COMMAND --help shows the options of a command\n"
        "  --version     show the version\n"
    )


def _refuse(sentence: str) -> NoReturn:
    sys.stderr.write(f"autoseg: error: {sentence}\n")
    sys.exit(2)
