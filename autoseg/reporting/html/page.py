"""The page around the sections: style, script, navigation, and a rule that nothing is ever loaded."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from autoseg.reporting.html.markup import Child, Markup, element, join

SCROLLS_FROM = 20  # rows
WARNING = "autoseg is research software. It is not a medical device and must not be used for diagnosis or treatment."


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page.

    Attributes:
        key: its fragment, as in ``#scores``.
        title: its heading, and its name in the navigation.
        body: below the heading.
    """

    key: str
    title: str
    body: Markup


def build_page(title: str, facts: Sequence[str], sections: Sequence[Section]) -> str:
    """The whole file; it names no address, and its policy forbids a browser to ask for one.

    Args:
        title: heading of the page.
        facts: short lines below the title.
        sections: in order.
    """
    style, script = _read("report.css"), _read("report.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("link", rel="icon", href="data:,"),
        element("style", Markup(style)),
    )
    links = [element("li", element("a", section.title, href=f"#{section.key}")) for section in sections]
    body = element(
        "body",
        element("a", "Skip to the report", href="#report", class_="skip"),
        element("header", element("h1", title), [element("p", fact) for fact in facts]),
        element("nav", element("ul", links), aria_label="Sections"),
        element("main", [_wrap(section) for section in sections], id="report"),
        element("footer", element("p", WARNING)),
        element("script", Markup(script)),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def paragraph(*children: Child) -> Markup:
    """Running text."""
    return element("p", *children)


def build_table(heads: Sequence[str], rows: Sequence[Sequence[Child]], *, caption: str, numbers: int = 0) -> Markup:
    """A table that scrolls by itself where the screen is narrow.

    Args:
        heads: of the columns.
        rows: cells; the first of each names the row.
        caption: what it shows.
        numbers: columns from the right that hold numbers.
    """
    first = len(heads) - numbers
    cells = [
        element(
            "tr",
            [
                element("th", cell, scope="row") if i == 0 else element("td", cell, class_="n" if i >= first else None)
                for i, cell in enumerate(row)
            ],
        )
        for row in rows
    ]
    names = [element("th", head, scope="col", class_="n" if i >= first else None) for i, head in enumerate(heads)]
    table = element(
        "table", element("caption", caption), element("thead", element("tr", names)), element("tbody", cells)
    )
    return wrap_table(table, caption, rows=len(rows))


def wrap_table(table: Markup, caption: str, *, rows: int) -> Markup:
    """A place for a table that can be scrolled with the keyboard, too; a long one gets a window of its own."""
    kind = "scroll long" if rows > SCROLLS_FROM else "scroll"
    return element("div", table, class_=kind, role="region", aria_label=caption, tabindex="0")


def fold_away(summary: str, *children: Child, opened: bool = False) -> Markup:
    """Details that open when they are asked for; paper shows only those that are open."""
    return element("details", element("summary", summary), *children, open=opened)


def _wrap(section: Section) -> Markup:
    heading = element("h2", section.title, id=f"{section.key}-title")
    return element("section", heading, section.body, id=section.key, aria_labelledby=f"{section.key}-title")


def _read(name: str) -> str:
    return files("autoseg.reporting.html").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


__all__ = ["Markup", "Section", "build_page", "build_table", "fold_away", "join", "paragraph", "wrap_table"]
