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
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        if "schema" in kind.model_fields or "schema_version" in kind.model_fields:
            _check_schema(kind, text, path, advice)
        problems = "; ".join(_describe(kind, problem) for problem in error.errors()[:5])
        raise PlanError(f"{path} is not a valid {kind.__name__.lower()} file: {problems}; {advice}") from error


def _check_schema(kind: type[Record], text: str | bytes, path: Path, advice: str) -> None:
    """Raise PlanError, before any other check, if the file has another version of the format."""
    try:
        schema = json.loads(text).get("schema")
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
