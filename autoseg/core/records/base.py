"""Base of every JSON record: frozen, closed to unknown keys, and read with errors that name the key."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from autoseg.core.errors import PlanError


class Record(BaseModel):
    """A frozen record that refuses unknown keys; NaN and infinity never reach the disk."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, protected_namespaces=()
    )


R = TypeVar("R", bound=Record)
MAX_JSON_BYTES = 2**28
FOREIGN_JSON_BYTES = 2**23  # of a file that autoseg did not write: 60 MB of "{}," take 4 GB of memory
HAND_WRITTEN_BYTES = 2**20  # larger ones are written by programs, which name no key twice


class JsonError(ValueError):
    """JSON text that cannot be read; the message is a clause."""


def parse_json(content: bytes | str, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """JSON text -> its value; no key twice, no NaN, and not nested without end.

    Args:
        content: UTF-8, with or without a byte order mark.
        max_bytes: refuse more, because values take many times the memory of their text.

    Raises:
        JsonError: one of these; the message is a clause.
    """
    if len(content) > max_bytes:
        raise JsonError(f"{len(content) >> 20} MB are more than such a file holds")
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content.removeprefix("\ufeff")
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except JsonError:
        raise
    except RecursionError as error:
        raise JsonError("nested too deeply") from error
    except ValueError as error:
        raise JsonError(str(error)) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise JsonError(f"key '{next(name for name in names if names.count(name) > 1)}' is there twice; keep one")
    return value


def _refuse_constant(name: str) -> Any:
    raise JsonError(f"{name} is not a number of JSON")


def render_record(record: Record, *, without: Collection[str] = ()) -> str:
    """The record as indented JSON that a person can read, edit and mail; short lists stay on one line.

    Args:
        without: keys of the record to leave out.
    """
    return _render(record.model_dump(mode="json", by_alias=True, exclude=set(without)), 0) + "\n"


def render_schema(kind: type[Record]) -> str:
    """The JSON Schema of a record's file, with the keys as written there."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **kind.model_json_schema(by_alias=True)}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _render(value: Any, depth: int) -> str:
    flat = json.dumps(value, ensure_ascii=False)
    nested = isinstance(value, dict | list) and any(isinstance(item, dict) for item in _items(value))
    if not isinstance(value, dict | list) or not value or (len(flat) + 2 * depth <= 110 and not nested):
        return flat
    inner, outer = "  " * (depth + 1), "  " * depth
    if isinstance(value, dict):
        pairs = ((json.dumps(key, ensure_ascii=False), _render(item, depth + 1)) for key, item in value.items())
        body = ",\n".join(f"{inner}{key}: {item}" for key, item in pairs)
        return f"{{\n{body}\n{outer}}}"
    body = ",\n".join(inner + _render(item, depth + 1) for item in value)
    return f"[\n{body}\n{outer}]"


def _items(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value


def parse_record(kind: type[R], text: str | bytes, *, path: Path, advice: str) -> R:
    """JSON text -> a validated record.

    Args:
        kind: the record class.
        text: JSON.
        path: the file it came from, for the message.
        advice: what the user can do, the last clause of the message.

    Raises:
        PlanError: not JSON, or keys unknown, missing or of the wrong type; the message names each.
    """
    content = text.encode() if isinstance(text, str) else text
    text = content.removeprefix(b"\xef\xbb\xbf")  # a byte order mark, which some editors write
    if len(text) > MAX_JSON_BYTES:
        raise PlanError(f"{path} has {len(text) >> 20} MB, more than a record has; {advice}")
    try:
        record = kind.model_validate_json(text)
        if len(text) <= HAND_WRITTEN_BYTES:
            parse_json(text)
        return record
    except JsonError as error:
        raise PlanError(f"{path} is not a valid {kind.__name__.lower()} file: {error}; {advice}") from error
    except ValidationError as error:
        if "schema" in kind.model_fields or "schema_version" in kind.model_fields:
            _check_schema(kind, text, path, advice)
        problems = "; ".join(_describe(kind, problem) for problem in error.errors()[:5])
        raise PlanError(f"{path} is not a valid {kind.__name__.lower()} file: {problems}; {advice}") from error


def _check_schema(kind: type[Record], text: str | bytes, path: Path, advice: str) -> None:
    """Raise PlanError, before any other check, if the file has another version of the format."""
    try:
        schema = parse_json(text).get("schema")
    except (ValueError, AttributeError):
        return
    expected = kind.model_fields["schema_version"].default
    if schema != expected:
        raise PlanError(f"{path} has schema {schema!r}, but this version of autoseg reads {expected!r}; {advice}")


def _describe(kind: type[Record], problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        keys = _known_keys(kind, problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), keys, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        return f"unknown key '{where}' ({hint}choose from: {', '.join(keys)})"
    if problem["type"] == "missing":
        return f"missing key '{where}'"
    if problem["type"] == "json_invalid":
        return f"not JSON ({problem['msg']})"
    message = problem["msg"].removeprefix("Value error, ")
    sentence = f"{message[:1].lower()}{message[1:]}"
    # The message names what does not fit together; the whole object would only hide it.
    value = "" if isinstance(problem["input"], dict) else f" (found {str(problem['input'])[:60]!r})"
    return f"'{where}': {sentence}{value}" if where else f"{sentence}{value}"


def _known_keys(kind: type[Record], location: tuple[Any, ...]) -> list[str]:
    """The keys allowed at a location, found by walking the annotations."""
    current: Any = kind
    for part in location:
        current = _record_in(current)
        if isinstance(part, str) and current is not None:
            fields = {(field.alias or name): field for name, field in current.model_fields.items()}
            if part in fields:
                current = fields[part].annotation
    current = _record_in(current)
    return [] if current is None else [field.alias or name for name, field in current.model_fields.items()]


def _record_in(annotation: Any) -> type[Record] | None:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, Record) else None
    if get_origin(annotation) in (Union, types.UnionType, tuple, list, dict) or get_args(annotation):
        for argument in get_args(annotation):
            record = _record_in(argument)
            if record is not None:
                return record
    return None
