"""A page from its template: one self-contained file that loads nothing, every text escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from autoseg.reporting.html.numbers import count, format_range, format_value, format_volume, unit_of, with_unit

ROOM = "autoseg.reporting.html"


def render_page(
    template: str,
    *,
    sections: Mapping[str, str],
    notes: Mapping[str, tuple[str, ...]],
    values: Mapping[str, Any],
    folded: Collection[str] = (),
) -> str:
    """Fill a template that extends ``page.html``.

    Args:
        template: its file name.
        sections: key -> title, in order; each is linked in the navigation.
        notes: section -> sentences on what is missing.
        values: everything else that the template names, ``facts`` (lines below the title) among it.
        folded: sections that open by a click.
    """
    environment = Environment(
        loader=PackageLoader("autoseg.reporting", "html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "value": format_value,
        "volume": format_volume,
        "with_unit": with_unit,
        "mm": lambda number: f"{number:.6g}",
    }
    environment.globals |= {"count": count, "format_range": format_range, "unit_of": unit_of}
    style, script = (files(ROOM).joinpath(name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    page = environment.get_template(template).render(
        sections=sections,
        notes=notes,
        folded=folded,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        **values,
    )
    return page.lstrip()  # of the lines between macros


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
