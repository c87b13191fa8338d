"""Every held-out case in a table that sorts, and some of them to look at."""

from __future__ import annotations

from autoseg.core.records import CaseScores
from autoseg.reporting.html.content import ReportContent, ShownScores
from autoseg.reporting.html.markup import Markup, element, join
from autoseg.reporting.html.numbers import count, show_value, show_volume, unit_of
from autoseg.reporting.html.page import paragraph, wrap_table
from autoseg.reporting.html.viewer import draw_key, draw_viewer


def show_cases(content: ReportContent) -> Markup:
    """One row per case and label."""
    shown = content.shown
    if shown is None:
        return paragraph("There are no scores of held-out cases yet.")
    labels = list(dict.fromkeys(label for case in shown.scores.cases for label in case.scores))
    metrics = list(shown.scores.conventions)
    heads = ["case", *(["label"] if len(labels) > 1 else []), "fold", "reference (ml)", "prediction (ml)"]
    heads += [f"{metric} ({unit_of(metric)})" if unit_of(metric) else metric for metric in metrics]
    words = 3 if len(labels) > 1 else 2
    names = [
        element("th", element("button", head, type="button"), scope="col", class_="n" if i >= words else None)
        for i, head in enumerate(heads)
    ]
    rows = [
        _show_row(case, label, shown, metrics, number=number if label == next(iter(case.scores)) else None, words=words)
        for number, case in enumerate(shown.scores.cases)
        for label in case.scores
    ]
    caption = f"{shown.name}: {count(len(shown.scores.cases), 'held-out case')}; a column's name sorts by it"
    table = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", names)),
        element("tbody", rows),
        class_="sorts",
        id="cases-table",
    )
    field = element("input", type="search", data_filters="cases-table", placeholder="part of its name")
    found = element("span", id="cases-table-found", role="status")
    search = element("div", element("label", "find a case", field), found, class_="controls needs-script")
    return join([search, wrap_table(table, caption, rows=len(rows))])


def _show_row(
    case: CaseScores, label: str, shown: ShownScores, metrics: list[str], *, number: int | None, words: int
) -> Markup:
    volumes = [case.reference_volume_ml.get(label), case.prediction_volume_ml.get(label)]
    cells = [element("td", label)] if words == 3 else []
    cells.append(element("td", shown.folds.get(case.case, "")))
    cells += [_show_number(volume, "" if volume is None else show_volume(volume)) for volume in volumes]
    for metric in metrics:
        value = case.scores[label].get(metric)
        cells.append(_show_number(value, show_value(value, metric)))
    return element(
        "tr",
        element("th", element("span", case.case, class_="case"), scope="row"),
        cells,
        id=None if number is None else f"case-{number}",
    )


def _show_number(value: float | None, text: str) -> Markup:
    """A cell that sorts by its exact value; one that is not defined sorts last."""
    return element("td", text, class_="n", data_value="" if value is None else repr(float(value)))


def show_pictures(content: ReportContent) -> Markup:
    """The worst, the median and the best case, slice by slice."""
    notes = [element("p", note, class_="note") for note in content.notes.get("pictures", ())]
    if not content.pictures:
        return join(notes or [paragraph("There is no case to show.")])
    assert content.shown is not None  # pictures are of shown cases
    intro = paragraph(
        f"Held-out cases of {content.shown.name}, by {content.shown.target}, mean over labels. The slice with most "
        "of the reference is open; the slider, also with the arrow keys or the wheel with Alt, leafs through those "
        "with lesion and some of the others. As radiologists see it, the patient's right is at the left.",
    )
    viewers = [draw_viewer(picture, number) for number, picture in enumerate(content.pictures)]
    return join([notes, intro, draw_key(content.pictures), element("div", viewers, class_="viewers")])
