"""Completion of commands, options and their values in bash, zsh and fish, from the options records."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import Field
from pathlib import Path
from typing import Any

from autoseg.cli.running import Command
from autoseg.options import CommonOptions
from autoseg.options.declaring import declared_fields, option_of, takes_no

SHELLS = ("bash", "zsh", "fish")

# Words of the command line -> candidates; a dataset is a folder below the root.
BASH = """\
_autoseg() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} command
    command=${{COMP_WORDS[0]##*/}}
    command=${{command#autoseg}}
    command=${{command#_}}
    command=${{command//_/-}}
    if [[ -z $command ]]; then
        if (( COMP_CWORD == 1 )); then
            COMPREPLY=($(compgen -W "{commands} --help --version" -- "$current"))
            return
        fi
        command=${{COMP_WORDS[1]}}
    fi
    case "$command $previous" in
{values}
        *" -d" | *" --dataset")
            COMPREPLY=($(compgen -W "$(command ls "${{AUTOSEG_ROOT:-.}}/autoseg_raw" 2>/dev/null)" -- "$current"))
            return ;;
    esac
    case "$command" in
{options}
    esac
    [[ $current == -* ]] || COMPREPLY=($(compgen -f -- "$current"))
}}
complete -o filenames -F _autoseg autoseg {scripts}
"""
ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"


def render_completion(shell: str, commands: Iterable[Command]) -> str:
    """The script that a shell runs at its start.

    Args:
        shell: ``bash``, ``zsh`` or ``fish``.
        commands: all of them.
    """
    if shell == "fish":
        return "".join(f"{line}\n" for line in _fish_lines(list(commands)))
    return (ZSH if shell == "zsh" else "") + _render_bash(list(commands))


def _render_bash(commands: list[Command]) -> str:
    values, options = [], []
    for command in commands:
        for field in _fields(command):
            declared = option_of(field)
            if declared.choices:
                patterns = " | ".join(f'"{command.name} {flag}"' for flag in declared.flags)
                values.append(f"        {patterns}) {_reply(declared.choices)}; return ;;")
        flags = ["-h", "--help", *(flag for field in _fields(command) for flag in _flags(field))]
        options.append(f"        {command.name}) {_reply(flags)} ;;")
    options.append(f"        completion) {_reply(SHELLS)}; return ;;")
    return BASH.format(
        commands=" ".join([*(command.name for command in commands), "completion"]),
        values="\n".join(values),
        options="\n".join(options),
        scripts=" ".join(command.script for command in commands),
    )


def _reply(words: Iterable[str]) -> str:
    return f'COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$current"))'


def _fish_lines(commands: list[Command]) -> Iterator[str]:
    first = "-n __fish_use_subcommand -f"
    for command in commands:
        yield f"complete -c autoseg {first} -a {command.name} -d {shlex.quote(command.title)}"
        for target in (f"autoseg -n '__fish_seen_subcommand_from {command.name}'", command.script):
            for field in _fields(command):
                yield f"complete -c {target}{_fish_option(field)}"
    yield f"complete -c autoseg {first} -a completion -d 'print the completion script of a shell'"
    yield f"complete -c autoseg -n '__fish_seen_subcommand_from completion' -f -a '{' '.join(SHELLS)}'"


def _fish_option(field: Field[Any]) -> str:
    declared = option_of(field)
    words = ""
    for flag in _flags(field):
        words += f" -l {flag[2:]}" if flag.startswith("--") else f" -s {flag[1:]}"
    if not isinstance(field.default, bool) and not takes_no(field):
        words += " -r" if declared.parse is Path else " -x"
    if declared.choices:
        words += f" -a '{' '.join(declared.choices)}'"
    return f"{words} -d {shlex.quote(declared.help)}"


def _fields(command: Command) -> list[Field[Any]]:
    fields = [*declared_fields(command.options), *declared_fields(CommonOptions)]
    return [field for field in fields if option_of(field).flags]


def _flags(field: Field[Any]) -> list[str]:
    flags = list(option_of(field).flags)
    return [*flags, flags[-1].replace("--", "--no-", 1)] if takes_no(field) else flags
