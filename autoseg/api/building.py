"""Arguments of a Python function -> the command's options record; the options' help as the function's ``Args``."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import Field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from autoseg.options import Options
from autoseg.options.declaring import declared_fields, describe, option_of

if TYPE_CHECKING:
    from autoseg.core.parallel import Progress
    from autoseg.core.store import Store

AnyOptions = TypeVar("AnyOptions", bound=Options)
Function = TypeVar("Function", bound=Callable[..., Any])
Root = str | Path | None
SHARED = {
    "root": "folder with autoseg_raw, autoseg_preprocessed and autoseg_results (default: $AUTOSEG_ROOT, else the "
    "current folder)",
    "should_stop": "called between steps; the work stops where it returns True, and the same call resumes",
    "progress": "called with (done, total, what) (default: a line that is replaced in a notebook, nothing elsewhere)",
}


def names_of(field: Field[Any]) -> set[str]:
    """Names that a Python argument of the option may have: the field's, and that of the long flag."""
    return {field.name, *(flag[2:].replace("-", "_") for flag in option_of(field).flags if flag.startswith("--"))}


def build(kind: type[AnyOptions], arguments: Mapping[str, Any]) -> AnyOptions:
    """The options of a command from a function's arguments.

    Raises:
        UsageError: a value is not one that its option takes, or two options exclude each other.
    """
    values = {}
    for field in declared_fields(kind):
        for name in names_of(field) & set(arguments):
            values[field.name] = arguments[name]
    return kind(**values)


def documented(kind: type[Options]) -> Callable[[Function], Function]:
    """A decorator that adds the help of the command's options to a function's docstring."""

    def add(function: Function) -> Function:
        code = function.__code__
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        fields = {name: describe(field) for field in declared_fields(kind) for name in names_of(field)}
        entries = (f"{name}: {fields.get(name) or SHARED[name]}." for name in names)
        lines = (textwrap.fill(entry, 112, initial_indent="    ", subsequent_indent="        ") for entry in entries)
        function.__doc__ = f"{textwrap.dedent(f'    {function.__doc__}').rstrip()}\n\nArgs:\n" + "\n".join(lines) + "\n"
        return function

    return add


def open_store(root: Root) -> Store:
    """The store below a root; None for $AUTOSEG_ROOT, else the current folder."""
    from autoseg.cli.running import default_root
    from autoseg.core.store import Store

    return Store(Path(root) if root is not None else default_root())


def shown(progress: Progress | None) -> Progress:
    """The callback; else one that shows a line in a notebook, and nothing elsewhere."""
    from autoseg.core.parallel import no_progress
    from autoseg.terminal import ProgressLine, notebook_line

    draw = notebook_line() if progress is None else None
    return progress or (no_progress if draw is None else ProgressLine(draw))


def never() -> bool:
    """Do not stop."""
    return False
