"""Tables of docs/commands.md, from the options records: ``python -m autoseg.cli.reference docs/commands.md``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import Field
from pathlib import Path
from typing import Any

from autoseg.cli.commands import COMMANDS
from autoseg.cli.entry import COMPLETION
from autoseg.options import CommonOptions, Options
from autoseg.options.declaring import declared_fields, describe, option_of, takes_no


def refresh(page: str) -> str:
    """The page with every generated part rewritten; each is between ``<!-- NAME -->`` and ``<!-- end -->``."""
    parts = {
        "contents": _render_contents(page),
        "commands": _render_commands(),
        "options of every command": _render_options(CommonOptions),
        **{f"options of {command.script}": _render_options(command.options) for command in COMMANDS.values()},
    }
    for name, part in parts.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        page = re.sub(pattern, lambda match, part=part: match[1] + part + "\n" + match[2], page, flags=re.S)  # type: ignore[misc]
    return page


def _render_contents(page: str) -> str:
    """Links to the headings of the second level."""
    titles = re.findall(r"^## (.+)$", page, flags=re.M)
    return "\n".join(f"- [{title}](#{_anchor(title)})" for title in titles)


def _anchor(title: str) -> str:
    """A heading's anchor as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _render_commands() -> str:
    rows = [f"| [`{c.script}`](#{c.script}) | `autoseg {c.name}` | {c.title} |" for c in COMMANDS.values()]
    rows.append(f"| | `autoseg completion` | {COMPLETION} |")
    return "\n".join(["| command | also | does |", "|---|---|---|", *rows])


def _render_options(kind: type[Options]) -> str:
    return "\n".join(["| option | meaning |", "|---|---|", *_rows(kind)])


def _rows(kind: type[Options]) -> Iterator[str]:
    for field in declared_fields(kind):
        more = option_of(field).more
        meaning = _mark_code(describe(field))
        yield f"| {_spell(field)} | {meaning}{'. ' if more else ''}{more} |"


def _spell(field: Field[Any]) -> str:
    """The flags with their value: ``-d NAME``, ``--dataset NAME``."""
    declared = option_of(field)
    value = f"{{{','.join(declared.choices)}}}" if declared.choices else declared.metavar or field.name.upper()
    value = f" {value} ..." if declared.count == "+" else f" {value}" * int(declared.count)
    if isinstance(field.default, bool) or takes_no(field):
        value = ""
    flags = list(declared.flags)
    if takes_no(field):
        flags.append(flags[-1].replace("--", "--no-", 1))
    return ", ".join(f"`{flag}{value}`" for flag in flags) or f"`{value.strip()}`"


def _mark_code(text: str) -> str:
    """Names of files, commands and options between backticks."""
    names = r"(?<![\w`])(--?[a-z][a-z-]*|autoseg_\w+|<case>\S*[a-z]|\$AUTOSEG_ROOT|\w+\.(?:json|csv|html))(?![\w`])"
    return re.sub(names, r"`\1`", text)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(refresh(path.read_text(encoding="utf-8")), encoding="utf-8")
