"""Say as whom a kubeconfig's user asks (`as`, `as-groups`): the header fields that client-go sends with each request.

The `kubernetes` package ignores them, and what was meant to be done with fewer rights is done with the user's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

_NAME = "!#$&'*+^`|"  # what, beside letters, digits and _.-~, a field's name may have; of a % client-go makes %25
_UNSAID = re.compile(r"[\x00-\x1f\x7f]")

Fields = tuple[tuple[str, str], ...]


def fields(user: Mapping[str, Any]) -> Fields:
    """Return the fields, of which one may come more than once; raise ValueError where one cannot be sent."""
    more: list[tuple[str, str]] = []
    more += [("Impersonate-Uid", uid) for uid in _texts("as-uid", [user.get("as-uid") or ""], "text") if uid]
    more += [("Impersonate-Group", group) for group in _texts("as-groups", user.get("as-groups"), "a list of text")]
    more += _extra("as-user-extra", user.get("as-user-extra") or {})
    (name,) = _texts("as", [user.get("as") or ""], "text")
    if more and not name:
        said = next(each for each in ("as-uid", "as-groups", "as-user-extra") if user.get(each))
        raise ValueError(f"it says {said} without as, whom that belongs to")
    return (("Impersonate-User", name), *more) if name else ()


def _extra(key: str, extra: object) -> Iterable[tuple[str, str]]:
    kind = "a mapping to lists of text"
    if not isinstance(extra, dict) or not all(isinstance(each, str) for each in extra):
        raise ValueError(f"its {key} is not {kind}")
    for name, values in extra.items():
        for value in _texts(key, values, kind):
            yield f"Impersonate-Extra-{quote(name, safe=_NAME)}", value


def _texts(key: str, values: object, kind: str) -> list[str]:
    """Return what a kubeconfig says there, as urllib3 sends it: the bytes of UTF-8, each a character."""
    if not isinstance(values, list | None) or not all(isinstance(each, str) for each in values or []):
        raise ValueError(f"its {key} is not {kind}")
    if any(_UNSAID.search(each) for each in values or []):
        raise ValueError(f"its {key} holds a character that no HTTP header may have")
    return [each.encode().decode("latin-1") for each in values or []]
