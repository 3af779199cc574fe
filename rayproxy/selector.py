"""Match labels against a label selector, as the API server does, for manifests that have no API server."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_KEY = r"(?:[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_TERMS = (
    (re.compile(rf"({_KEY})\s*==?\s*({_VALUE})"), lambda labels, key, value: labels.get(key) == value),
    (re.compile(rf"({_KEY})\s*!=\s*({_VALUE})"), lambda labels, key, value: labels.get(key) != value),
    (re.compile(rf"!\s*({_KEY})()"), lambda labels, key, _: key not in labels),
    (re.compile(rf"({_KEY})()"), lambda labels, key, _: key in labels),
)

Matcher = Callable[[Mapping[str, str]], bool]


def parse_selector(text: str) -> Matcher:
    """Return a function from labels to bool; raise ValueError on what is no equality-based selector."""
    terms = [_term(part.strip()) for part in text.split(",") if part.strip()]
    return lambda labels: all(term(labels) for term in terms)


def _term(text: str) -> Matcher:
    for pattern, matches in _TERMS:
        if found := pattern.fullmatch(text):
            key, value = found.groups()
            return lambda labels: bool(matches(labels, key, value))
    raise ValueError(f"{text!r} is not a label selector such as app=prediction, app!=test, app or !app")
