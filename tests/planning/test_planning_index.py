"""The rules' numbers: each stands for one thing, in the modules and in the index of docs/plan.md."""

import re
from pathlib import Path

import autoseg.planning

PACKAGE = Path(autoseg.planning.__file__).parent
PAGE = PACKAGE.parents[1] / "docs" / "plan.md"


def read_index():
    """Rule -> the modules that the page names."""
    rows = re.findall(r"^\| (\d+) \| .* \| (`[^|]*`) \|$", PAGE.read_text(), re.MULTILINE)
    return {int(rule): set(re.findall(r"`(\w+)`", modules)) for rule, modules in rows}


def test_the_index_numbers_every_rule_once():
    assert list(read_index()) == list(range(1, 21))


def test_a_module_that_names_a_rule_in_its_heading_is_in_the_index_of_that_rule():
    index = read_index()
    for path in PACKAGE.glob("*.py"):
        heading = path.read_text().splitlines()[0]
        numbers = re.match(r'"""Rules? (\d+)\w?(?:( and |-)(\d+))?', heading)
        if numbers is None:
            continue
        first, between, last = numbers.groups()
        rules = [int(first)] if last is None else [int(first), int(last)]
        if between == "-":
            rules = list(range(rules[0], rules[1] + 1))
        for rule in rules:
            assert path.stem in index[rule], (path.stem, rule)
