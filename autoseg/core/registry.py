"""A table of named extensions: one file and one line in the shelf's table, or an entry point of another package."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Generic, TypeVar, cast

from autoseg.core.errors import UsageError

T = TypeVar("T")


def unknown_name(noun: str, name: str, names: Iterable[str], *, of: str = "") -> str:
    """Message for a name that is in no table: the most similar names, and all names to choose from.

    Args:
        noun: kind of thing named ("network", "option").
        of: what the thing belongs to ("loss 'focal'").
    """
    choices = list(names)
    similar = " or ".join(f"'{match}'" for match in difflib.get_close_matches(name, choices, n=3))
    hint = f" (did you mean {similar}?)" if similar else ""
    owner = f" of {of}" if of else ""
    return f"unknown {noun} '{name}'{owner}{hint}; choose from: {', '.join(choices) or 'none'}"


class Table(Generic[T]):
    """Names and where each is implemented; an implementation is imported when it is used.

    Args:
        noun: what the table holds, for messages ("network").
        entries: name -> "module:attribute".
        plural: of the noun, where it is not the noun with an s.

    Packages outside add a name with an entry point in the group ``autoseg.<plural>`` (``autoseg.networks``).
    """

    def __init__(self, noun: str, entries: Mapping[str, str], *, plural: str | None = None) -> None:
        self.noun = noun
        self.group = f"autoseg.{plural or noun + 's'}"
        self.entries = dict(entries)

    def _all(self) -> dict[str, str]:
        outside = {point.name: point.value for point in entry_points(group=self.group)}
        return {**outside, **self.entries}

    def names(self) -> tuple[str, ...]:
        """All names, ours first, in the table's order."""
        return tuple(dict.fromkeys([*self.entries, *self._all()]))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.entries or name in self._all()  # ours without asking what other packages add

    def __getitem__(self, name: str) -> T:
        """The extension of that name.

        Raises:
            UsageError: the table has no such name; the message lists those it has.
        """
        where = self.entries.get(name) or self._all().get(name)
        if where is None:
            raise UsageError(unknown_name(self.noun, name, self.names()))
        module, _, attribute = where.partition(":")
        return cast(T, getattr(importlib.import_module(module), attribute))
