"""Strict field validation against a structural schema. Pure.

An API server drops fields that a custom resource's schema does not know without a word. Here each of them is
named before anything is sent, together with what the server would reject.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rayproxy.checkpoint.refusal import RefusedError

Schema = Mapping[str, Any]

_TYPES: dict[str, Callable[[object], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}


def violations(schema: Schema, document: dict[str, Any]) -> list[str]:
    """Say of each field of `document` that the server would drop or reject where it is and why."""
    # The server itself knows these three, whatever the schema says of them.
    body = {key: value for key, value in document.items() if key not in ("apiVersion", "kind", "metadata")}
    return list(_walk(schema, body, ""))


def require_kept(schema: Schema, document: dict[str, Any]) -> None:
    """Refuse a document of which the server would drop or reject a field."""
    found = violations(schema, document)
    if found:
        raise RefusedError(f"the cluster's {document['kind']} does not take this:\n  " + "\n  ".join(found))


def _walk(schema: Schema, value: object, path: str) -> Iterator[str]:
    problem = _rejected(schema, value)
    if problem:
        yield f"{path}: {problem}"
    elif isinstance(value, dict):
        yield from _walk_object(schema, value, path)
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from _walk(schema["items"], item, f"{path}[{index}]")


def _walk_object(schema: Schema, value: dict[str, object], path: str) -> Iterator[str]:
    known = schema.get("properties", {})
    others = schema.get("additionalProperties")
    for key in schema.get("required", ()):
        if key not in value and "default" not in known.get(key, {}):
            yield f"{_join(path, key)}: required, and missing"
    for key, item in value.items():
        if key in known:
            yield from _walk(known[key], item, _join(path, key))
        elif isinstance(others, Mapping):
            yield from _walk(others, item, _join(path, key))
        elif not others and not schema.get("x-kubernetes-preserve-unknown-fields"):
            yield f"{_join(path, key)}: unknown, and would be dropped without a word"


def _rejected(schema: Schema, value: object) -> str | None:
    if value is None:
        return None if schema.get("nullable") else "null, where a value is required"
    if schema.get("x-kubernetes-int-or-string"):
        if not (_TYPES["integer"](value) or _TYPES["string"](value)):
            return f"{value!r} is neither an integer nor a string"
    elif "type" in schema and not _TYPES[schema["type"]](value):
        return f"{value!r} is not of type {schema['type']}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{value!r} is none of {', '.join(map(str, schema['enum']))}"
    return _out_of_bounds(schema, value)


def _out_of_bounds(schema: Schema, value: object) -> str | None:
    if isinstance(value, str):
        # The server's expressions are RE2; what KubeRay uses of it reads the same in Python.
        if "pattern" in schema and not re.search(schema["pattern"], value):
            return f"{value!r} does not match {schema['pattern']}"
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            return f"{value!r} is too short or too long"
    elif isinstance(value, int | float) and not (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
    ):
        return f"{value!r} is out of bounds"
    return None


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
