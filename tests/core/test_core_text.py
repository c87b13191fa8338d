import pytest

from autoseg.core.text import join_names


@pytest.mark.parametrize(
    ("names", "text"), [((), ""), ((1, 2), "1, 2"), (("a", "b", "c"), "a, b and 1 more"), ("abcde", "a, b and 3 more")]
)
def test_names_beyond_the_limit_are_counted(names, text):
    assert join_names(names, limit=2) == text
