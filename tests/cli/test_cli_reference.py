"""docs/commands.md holds what the records say."""

from pathlib import Path

from autoseg.cli.reference import refresh

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"


def test_the_page_is_fresh():
    text = PAGE.read_text()
    assert refresh(text) == text, "run: python -m autoseg.cli.reference docs/commands.md"


def test_a_part_is_rewritten_between_its_marks():
    page = "before\n<!-- options of autoseg_demo -->\nold\n<!-- end -->\nafter\n"
    assert refresh(page) == (
        "before\n<!-- options of autoseg_demo -->\n| option | meaning |\n|---|---|\n"
        "| `--time-budget TIME` | time for the training (default: 4m) |\n<!-- end -->\nafter\n"
    )
