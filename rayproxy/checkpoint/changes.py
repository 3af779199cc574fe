"""What differs between two states of an object, whoever wrote them. Pure.

KubeRay's operator (1.6 and newer) adds its finalizer by an Update of the whole object. It writes the object back as Go
has it: `2000m` is `2`, and `metadata: {}` and the like appear. That is no difference here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rayproxy.checkpoint.fields import canonical as canonical_quantity

_QUANTITIES = {"limits", "requests", "sizeLimit"}
_EMPTY: tuple[object, ...] = (None, "", {}, [])
_MAX_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Change:
    """A field with its two values; None is one that is not there."""

    path: str
    before: object
    after: object

    def touches(self, other: Change) -> bool:
        """Tell whether one of the two fields is, or lies within, the other."""
        return self.is_in(other.path) or other.is_in(self.path)

    def is_in(self, path: str) -> bool:
        """Tell whether the field is the one at `path`, or lies within it."""
        return self.path == path or (self.path.startswith(path) and self.path[len(path)] in ".[")


def changes(before: object, after: object) -> list[Change]:
    """Return each field that differs, as deep down as it can be named."""
    return list(_walk("", canonical(before), canonical(after)))


def overwritten(applied: object, live: object, wanted: object) -> list[Change]:
    """Return what was changed in `live` since it was `applied`, and would be undone, or changed again, by `wanted`."""
    ours = changes(live, wanted)
    return [theirs for theirs in changes(applied, live) if any(theirs.touches(each) for each in ours)]


def canonical(value: Any, *, quantity: bool = False) -> Any:  # noqa: ANN401 - any JSON
    """Return `value` in the one form that all its spellings have: no empty fields, canonical quantities."""
    if isinstance(value, dict):
        items = {key: canonical(item, quantity=quantity or key in _QUANTITIES) for key, item in value.items()}
        return {key: item for key, item in items.items() if item not in _EMPTY}
    if isinstance(value, list):
        return [canonical(item, quantity=quantity) for item in value]
    return canonical_quantity(str(value)) if quantity else value


def shown(value: object) -> str:
    """Return a value as a person reads it, in one line of bounded length."""
    if value is None:
        return "absent"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _walk(path: str, before: object, after: object) -> Iterator[Change]:
    if before == after:
        return
    ours, theirs = _parts(before), _parts(after)
    # Where all parts are equal and the whole is not, their order is what changed.
    if type(before) is not type(after) or ours == theirs:
        yield Change(path, before, after)
        return
    for label in ours | theirs:
        yield from _walk((path + label).removeprefix("."), ours.get(label), theirs.get(label))


def _parts(value: object) -> dict[str, object]:
    """Return the parts that can be named, by what their names add to a path; none for a text or a number."""
    if isinstance(value, dict):
        return {f".{key}": item for key, item in value.items()}
    if not isinstance(value, list):
        return {}
    named = {_label(item): item for item in value}
    return named if len(named) == len(value) and "" not in named else {f"[{n}]": item for n, item in enumerate(value)}


def _label(item: object) -> str:
    """Return how an item of a list is named in a path, as the API server names those of a list of containers."""
    keys = (key for key in ("name", "groupName") if isinstance(item, dict) and key in item)
    return next((f"[{key}={json.dumps(item[key])}]" for key in keys if isinstance(item, dict)), "")
