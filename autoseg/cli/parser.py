"""A command's parser, built from its options record."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field
from typing import Any, NoReturn, TypeVar

from autoseg.cli.nnunet_words import ANSWERS
from autoseg.core.errors import UsageError
from autoseg.options import CommonOptions, Options
from autoseg.options.declaring import Option, declared_fields, describe, is_required, option_of, takes_no

AnyOptions = TypeVar("AnyOptions", bound=Options)


class Parser(argparse.ArgumentParser):
    """argparse's parser, which answers an unknown option with the nearest one, or nnU-Net's with ours."""

    def refuse(self, sentence: str) -> NoReturn:
        """End with exit code 2 and one line."""
        self.exit(2, f"{self.prog}: error: {sentence}\n")

    def check_flags(self, argv: Sequence[str]) -> None:
        """End where an argument looks like an option and is not one of this command's."""
        for word in argv:
            flag = word.split("=", maxsplit=1)[0]
            if word == "--":
                return
            if not re.match(r"-[^\d.]", word) or flag in self._option_string_actions:
                continue
            if flag in ANSWERS:
                self.refuse(f"{flag} is an option of nnU-Net's; {ANSWERS[flag]}")
            if not word.startswith("--") and word[:2] in self._option_string_actions:
                continue  # -dNAME
            near = difflib.get_close_matches(flag, self._option_string_actions, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            self.refuse(f"unknown option {flag}{hint}; see {self.prog} --help")


def build_parser(prog: str, kind: type[Options], *, summary: str, example: str) -> Parser:
    """The parser of a command's options, and of those that all commands have."""
    parser = Parser(
        prog=prog,
        description=summary,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    groups: dict[str, Any] = {}
    for record in (kind, CommonOptions):
        for field in declared_fields(record):
            _add(_choose_group(parser, groups, option_of(field)), field)
    return parser


def parse(
    parser: Parser, kind: type[AnyOptions], argv: Sequence[str] | None = None
) -> tuple[AnyOptions, CommonOptions]:
    """Arguments -> the command's options, and those that all commands have; a usage error ends the process."""
    parser.check_flags(sys.argv[1:] if argv is None else argv)
    values = vars(parser.parse_intermixed_args(argv))
    try:
        common = CommonOptions(**{field.name: values.pop(field.name) for field in declared_fields(CommonOptions)})
        return kind(**values), common
    except UsageError as error:
        parser.error(str(error))


def _choose_group(parser: Parser, groups: dict[str, Any], declared: Option) -> Any:
    """The parser, a section of its help, or a group of options that exclude each other."""
    if declared.exclusive:
        if declared.exclusive not in groups:
            required = declared.one_required
            groups[declared.exclusive] = parser.add_mutually_exclusive_group(required=required)
        return groups[declared.exclusive]
    if declared.heading:
        if declared.heading not in groups:
            groups[declared.heading] = parser.add_argument_group(declared.heading)
        return groups[declared.heading]
    return parser


def _add(group: Any, field: Field[Any]) -> None:
    declared, default = option_of(field), None if field.default is MISSING else field.default
    settings: dict[str, Any] = {"help": describe(field).replace("%", "%%"), "default": default}
    if isinstance(default, bool):
        settings["action"] = "store_false" if default else "store_true"
    elif takes_no(field):
        settings["action"] = argparse.BooleanOptionalAction
    else:
        settings["type"] = _typed(declared)
        settings["metavar"] = declared.metavar
        if declared.choices:
            settings["metavar"] = f"{{{','.join(declared.choices)}}}"
        if declared.count != 1:
            settings["nargs"] = declared.count
    if declared.flags:
        group.add_argument(*declared.flags, dest=field.name, required=is_required(field), **settings)
    else:
        if not is_required(field):
            settings["nargs"] = "?"
        group.add_argument(field.name, **settings)


def _typed(declared: Option) -> Callable[[str], Any]:
    """The option's conversion of one text, with argparse's error."""

    def convert(text: str) -> Any:
        try:
            return declared.convert_one(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert
