"""What validation found, in a sentence for the caller: where in the body, what is accepted there, what was given."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHOWN = 40  # characters of a caller's value that are repeated to him
SECRET = "secretKey"  # noqa: S105 - the field's name: its value is repeated to nobody

# By pydantic's name of the fault: what is accepted instead. {bounds} come with the fault.
ACCEPTED = {
    "string_type": "a string",
    "string_too_short": "a string that is not empty",
    "string_too_long": "a string of at most {max_length} characters",
    "string_pattern_mismatch": "a string of the form {pattern}",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "too_short": "a list that is not empty",
    "too_long": "at most {max_length} of them",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "literal_error": "{expected}",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
}


def describe(problems: Sequence[Mapping[str, Any]], body: object) -> tuple[str, str | None]:
    """Return the sentence for what validation found in a body, and the parameter it is about.

    A value that may be of several kinds has a problem for each kind that it is not: those that lie deepest in the
    body, and furthest in a list, are about the kind that was meant.
    """
    places = [_place(problem, body) for problem in problems]
    about = [(place, one) for place, one in zip(places, problems, strict=True) if place[:1] == places[0][:1]]
    where = max((place for place, _ in about), key=_depth)
    there = [one for place, one in about if place == where]
    text = f"{dotted(where) or 'the body'}: {_fault(there, secret=SECRET in where)}"
    return text, str(where[0]) if where else None


def _depth(place: Sequence[str | int]) -> tuple[int, list[int]]:
    return len(place), [step for step in place if isinstance(step, int)]


def dotted(place: Sequence[str | int]) -> str:
    """Return a place in a body as callers write it; what cannot be printed is escaped."""
    names = [str(name)[:SHOWN] for name in place]
    return ".".join(name if name.isprintable() else ascii(name) for name in names)


def shown(value: object) -> str:
    """Return a caller's value, or only its kind where it is long."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, str) and len(value) > SHOWN:
        return f"a string of {len(value)} characters"
    text = json.dumps(value, ensure_ascii=not str(value).isprintable(), default=lambda one: type(one).__name__)
    return text if len(text) <= SHOWN * 6 else f"{text[:SHOWN]}..."


def _place(problem: Mapping[str, Any], body: object) -> tuple[str | int, ...]:
    """Return where a problem lies, in names that the body has: pydantic's own, of the kinds it tried, are left out."""
    here: Any = body
    found = []
    for step in problem["loc"]:
        if _has(here, step):
            here = here[step]
        elif problem["type"] != "missing" or step is not problem["loc"][-1]:
            continue
        found.append(step)
    return tuple(found)


def _has(value: object, step: object) -> bool:
    return step in value if isinstance(value, dict) else isinstance(value, list) and step in range(len(value))


def _fault(there: Sequence[Mapping[str, Any]], *, secret: bool) -> str:
    kinds = [one["type"] for one in there]
    if "missing" in kinds:
        return "it is missing"
    for one in there:
        if one["type"] not in ACCEPTED:
            return str(one["msg"])
    accepted = dict.fromkeys(ACCEPTED[one["type"]].format(**_plain(one.get("ctx", {}))) for one in there)
    given = "what was given" if secret else shown(there[0]["input"])
    return f"{' or '.join(accepted)} is accepted, not {given}"


def _plain(bounds: Mapping[str, Any]) -> dict[str, Any]:
    """Return the bounds with 1.0 as 1."""
    return {name: int(one) if isinstance(one, float) and one.is_integer() else one for name, one in bounds.items()}
