"""Plain English: docstrings begin with the thing or the verb; idioms that a reader stumbles over do not come back."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "autoseg"
FILES = sorted(PACKAGE.rglob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "benchmarks").rglob("*.md"))]

RIDDLES = {"What", "Which", "How", "Where", "Who", "Whose", "Whatever", "When", "Why"}

# After "is no": as English has it.
IDIOMS = "longer|more|larger|smaller|better|worse|less|higher|lower|fewer|greater|faster|different|reason|need|overlap"

# What a native writer would not say -> what to write.
PHRASES = {
    r"\banew\b": "again, new",
    rf"(?<![Tt]here )\bis no (?!{IDIOMS})\w": "is not a",
    r"; left out: (?![{%])": "default: ",
    r"\bgo(?:es)? on\b": "resume, continue",
    r"\bthere is no \w+ ['\"{]": "unknown X 'y'",
    r"\bknown are\b": "choose from",
    r"\bworth a look\b": "for review",
    r"\btwice over\b": "twice",
    r"\bas you said\b": "(leave it out)",
}

# Names that state their grammar and not their content.
NAMES = {
    "said",
    "hers",
    "thing",
    "own",
    "wanted",
    "held",
    "known",
    "kept",
    "made",
    "there",
    "here",
    "other",
    "each",
    "why",
}

# Files in which some of these names are still to be replaced.
UNNAMED = re.compile(r"^prediction/")


def docstrings(tree):
    """(line, first line) of every docstring of a module, class or function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text.splitlines()[0]


def prose(path):
    """(line, text) of strings and comments of a module, where people read words."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type in (tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", -1)):
            yield token.start[0], token.string


def assigned_names(tree):
    """(line, name) of every variable, argument and loop variable."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_docstrings_begin_with_the_thing_or_the_verb(path):
    found = [
        f"{path.name}:{line}: {text}"
        for line, text in docstrings(ast.parse(path.read_text()))
        if re.split(r"[\s,:']", text, maxsplit=1)[0] in RIDDLES
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_package_text_has_no_dialect(path):
    found = [
        f"{path.name}:{line}: {phrase} -> {better}: {text.strip()}"
        for line, text in prose(path)
        for phrase, better in PHRASES.items()
        if re.search(phrase, text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_pages_have_no_dialect(path):
    found = [
        f"{path.name}:{line}: {phrase} -> {better}: {text}"
        for line, text in enumerate(path.read_text().splitlines(), start=1)
        for phrase, better in PHRASES.items()
        if re.search(phrase, text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_variables_name_their_content(path):
    names = NAMES & {"said", "hers", "thing"} if UNNAMED.search(path.relative_to(PACKAGE).as_posix()) else NAMES
    grammatical = [
        f"{path.name}:{line}: {name}" for line, name in assigned_names(ast.parse(path.read_text())) if name in names
    ]
    assert not grammatical, "\n".join(grammatical)
