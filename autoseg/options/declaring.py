"""Options of a command: one frozen record; each field holds the help, the flags and the parser of one option."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any

from autoseg.core.errors import UsageError
from autoseg.options.values import one_of


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option: everything but its type and its default, which the field has.

    Attributes:
        flags: ``-d``, ``--dataset``; empty for a positional argument.
        help: one clause, without the default.
        more: further sentences, in Markdown, for the page of the commands.
        default: the default in words, where the value alone does not explain it.
        metavar: placeholder of the value.
        choices: the only values.
        parse: text or a Python value -> the value.
        count: values that one flag takes: ``1``; ``+`` for one or more; or a number.
        exclusive: name of a group of which at most one may be given.
        one_required: of this group one must be given.
        heading: title of the section of ``--help``.
    """

    flags: tuple[str, ...]
    help: str
    more: str = ""
    default: str = ""
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    parse: Callable[[Any], Any] = str
    count: int | str = 1
    exclusive: str = ""
    one_required: bool = False
    heading: str = ""

    def convert(self, value: Any) -> Any:
        """The value as the field holds it; a path may be text, and one value may be given for several.

        Raises:
            UsageError: it is not one that the option takes.
        """
        if value is None or isinstance(value, bool):
            return value
        if self.count == 1:
            return self.convert_one(value)
        values = (value,) if isinstance(value, str | Path) or not isinstance(value, Sequence) else value
        if isinstance(self.count, int) and len(values) != self.count:
            raise UsageError(f"expected {self.count} values, got {len(values)}")
        return tuple(self.convert_one(item) for item in values)

    def convert_one(self, value: Any) -> Any:
        """One of the values.

        Raises:
            UsageError: it is not one that the option takes.
        """
        return one_of(value, self.choices) if self.choices else self.parse(value)


def option(*flags: str, help: str, **rest: Any) -> dict[str, Option]:
    """Metadata of a field; see ``Option`` for the arguments."""
    return {"option": Option(flags=flags, help=help, **rest)}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of one command.

    Values are converted and checked: text to paths and durations, one name to a tuple of one.

    Raises:
        UsageError: a value is not one that its option takes, or two options exclude each other.
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            declared = option_of(field)
            try:
                value = declared.convert(getattr(self, field.name))
            except UsageError as error:
                raise UsageError(f"{_name(field)}: {error}") from None
            object.__setattr__(self, field.name, value)
        self._check_groups()

    def _check_groups(self) -> None:
        groups: dict[str, list[Field[Any]]] = {}
        for field in fields(self):
            if option_of(field).exclusive:
                groups.setdefault(option_of(field).exclusive, []).append(field)
        for members in groups.values():
            given_options = [_name(field) for field in members if is_given(self, field)]
            if len(given_options) > 1:
                raise UsageError(f"{given_options[0]} and {given_options[1]} exclude each other; leave one of them out")
            if not given_options and option_of(members[0]).one_required:
                raise UsageError(f"give one of {', '.join(map(_name, members))}")


def declared_fields(kind: type[Options]) -> list[Field[Any]]:
    """Fields in the order of ``--help``: the command's own before shared ones; arguments by position, then required."""
    annotations = inspect.get_annotations(kind)

    def place(field: Field[Any]) -> tuple[bool, bool, bool]:
        named = bool(option_of(field).flags)
        return field.name not in annotations, named, named and not is_required(field)

    return sorted(fields(kind), key=place)


def option_of(field: Field[Any]) -> Option:
    """The option that a field declares."""
    declared: Option = field.metadata["option"]
    return declared


def is_required(field: Field[Any]) -> bool:
    """Whether the field has no default."""
    return field.default is MISSING and field.default_factory is MISSING


def is_given(options: Options, field: Field[Any]) -> bool:
    """Whether the value differs from the default."""
    return is_required(field) or getattr(options, field.name) != field.default


def takes_no(field: Field[Any]) -> bool:
    """Whether the option has a negative form, as ``--mirror`` and ``--no-mirror``."""
    return field.type == "bool | None"


def describe(field: Field[Any]) -> str:
    """The help of an option, with its default."""
    declared, default = option_of(field), field.default
    words = declared.default
    if not words and not isinstance(default, bool) and default not in (MISSING, None, ()):
        words = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return f"{declared.help} (default: {words})" if words else declared.help


def command_line(options: Options) -> list[str]:
    """The arguments that give these options, without those at their defaults."""
    words: list[str] = []
    for field in declared_fields(type(options)):
        value, declared = getattr(options, field.name), option_of(field)
        if not is_given(options, field):
            continue
        if isinstance(value, bool):
            negated = field.default is None and not value
            words.append(declared.flags[-1].replace("--", "--no-", 1) if negated else declared.flags[-1])
        else:
            words += [*declared.flags[:1], *_render(value, declared)]
    return words


def _render(value: Any, declared: Option) -> list[str]:
    if declared.count != 1:
        return [str(item) for item in value]
    if declared.metavar == "TIME" and not isinstance(value, str):
        return [f"{value:g}s"]
    return ["/".join(map(str, value)) if isinstance(value, tuple) else str(value)]


def _name(field: Field[Any]) -> str:
    flags = option_of(field).flags
    return flags[-1] if flags else field.name
