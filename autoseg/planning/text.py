"""Numbers and lists in the sentences of a plan."""

from __future__ import annotations

from collections.abc import Sequence


def join(numbers: Sequence[float]) -> str:
    """Numbers as ``24 x 256 x 256``."""
    return " x ".join(f"{n:.4g}" for n in numbers)


def join_words(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def count(amount: int, noun: str) -> str:
    """``1 case``, ``5 cases``."""
    return f"{amount} {noun}{'s'[: amount != 1]}"


def amount(value: float) -> str:
    """A large number with three digits and its scale in words: ``42.5 million``."""
    for scale, word in ((1e9, " billion"), (1e6, " million"), (1e3, " thousand")):
        if value >= scale:
            return f"{float(f'{value / scale:.3g}'):g}{word}"
    return f"{value:.3g}"


def number(value: float) -> str:
    """A number with four digits, or all before the point."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def gflop(value: float) -> str:
    """Arithmetic with three digits: ``13.4 GFLOP``, ``1060 GFLOP``."""
    return f"{float(f'{value:.3g}'):.0f} GFLOP" if value >= 100 else f"{value:.3g} GFLOP"


def volume(ml: float) -> str:
    """A volume in ml with three digits."""
    return f"{ml:.0f} ml" if ml >= 100 else f"{ml:.3g} ml"


def percent(share: float) -> str:
    """A share in per cent; a small one keeps a digit that is not 0."""
    return f"{share:.0%}" if share == 0 or share >= 0.0095 else f"{share * 100:.1g}%"
