"""What the commands' parsers share: the options of every command, and the types of their values."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

Arguments = argparse.Namespace
ArgumentParser = argparse.ArgumentParser
BooleanOptionalAction = argparse.BooleanOptionalAction


def make_parser(name: str, description: str, example: str) -> argparse.ArgumentParser:
    """A command's parser, with the options that all commands have."""
    parser = argparse.ArgumentParser(
        prog=name,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--root",
        type=Path,
        help="the folder with autoseg_raw, autoseg_preprocessed and autoseg_results; "
        "left out: $AUTOSEG_ROOT, else the current folder",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="warnings and errors only")
    return parser


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device``."""
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto takes a GPU where there is one"
    )


def read_device(text: str) -> str:
    """``auto``, ``cpu``, ``cuda``, or one GPU of several: ``cuda:1``."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"'{text}' is no device; write auto, cpu, cuda, or cuda:1 for the second GPU")
    return text


def add_workers(parser: argparse.ArgumentParser) -> None:
    """``--workers``."""
    parser.add_argument(
        "--workers", type=read_count, metavar="N", help="processes; left out: what cores and memory allow"
    )


# Of scoring; here, so that --help loads nothing.
PRESETS = ("isles22", "isles24", "atlas", "brats", "wmh", "slices", "nnunet")


def add_scoring(parser: argparse.ArgumentParser) -> None:
    """``--preset``, ``--metrics`` and ``--allow-missing``."""
    parser.add_argument("--preset", choices=PRESETS, help="the metrics and conventions of a challenge or of nnU-Net")
    parser.add_argument(
        "--metrics", nargs="+", metavar="METRIC", help="left out: the preset's, or the default ones; 'all' is possible"
    )
    parser.add_argument(
        "--allow-missing", action="store_true", help="count a missing mask as the worst score there is, and go on"
    )


def read_duration(text: str) -> float:
    """``90s``, ``10m`` or ``6h`` -> seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip())
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no duration; write 90s, 10m or 6h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def read_positive(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is no positive number")
    return value


def read_share(text: str) -> float:
    """A number above 0 and at most 1."""
    value = read_positive(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no share; write a number above 0 and at most 1")
    return value


def read_part(text: str) -> tuple[int, int]:
    """``2/4`` -> (2, 4): the second of four parts."""
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count:
        raise argparse.ArgumentTypeError(f"'{text}' is no part; write 1/4, 2/4, 3/4 or 4/4 for a quarter each")
    return number, count


def read_count(text: str) -> int:
    """A whole number from 1."""
    return _read_whole(text, 1)


def read_margin(text: str) -> int:
    """A whole number from 0."""
    return _read_whole(text, 0)


def read_several(text: str) -> int:
    """A whole number from 2."""
    return _read_whole(text, 2)


def _read_whole(text: str, least: int) -> int:
    if not text.isdigit() or int(text) < least:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from {least}")
    return int(text)
