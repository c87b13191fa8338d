"""HTML and SVG elements whose text is always escaped: what a user named cannot become markup."""

from __future__ import annotations

import html
from collections.abc import Iterable

VOID = frozenset({"br", "input", "link", "meta"})


class Markup(str):
    """Text that is HTML already; every other string is escaped."""

    __slots__ = ()


Child = str | float | None | Iterable["Child"]
Attribute = str | float | bool | None


def element(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """One element.

    Args:
        name: of the tag.
        children: strings are escaped, markup is kept, None is left out, lists are taken apart.
        attributes: ``class_`` is class and ``data_value`` data-value; True is an attribute without a value; None and
            False leave it out.
    """
    shown = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    if name in VOID:
        return Markup(f"<{name}{shown}>")
    return Markup(f"<{name}{shown}>{join(children)}</{name}>")


def join(children: Child) -> Markup:
    """Children one after the other."""
    if children is None:
        return Markup("")
    if isinstance(children, Markup):
        return children
    if isinstance(children, str | int | float):
        return Markup(html.escape(str(children)))
    return Markup("".join(join(child) for child in children))


def _attribute(key: str, value: Attribute) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'
