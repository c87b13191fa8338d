import pytest

from autoseg.core.text import join_names, render_csv_rows


@pytest.mark.parametrize(
    ("names", "text"), [((), ""), ((1, 2), "1, 2"), (("a", "b", "c"), "a, b and 1 more"), ("abcde", "a, b and 3 more")]
)
def test_names_beyond_the_limit_are_counted(names, text):
    assert join_names(names, limit=2) == text


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@sum", "\t=1"])
def test_text_that_a_spreadsheet_would_compute_stays_text(cell):
    assert render_csv_rows(("a", "b"), [(cell, -1.5)]) == f"a,b\n'{cell},-1.5\n"
