"""What an operator grants: which namespaces may have which names, and how many routes each. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grant:
    """Let namespaces have names: patterns of both, in which a * is any text."""

    namespaces: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grants:
    """All that is granted: `names` None is every name to everyone, `most` 0 is any number of routes."""

    names: re.Pattern[str] | None = None  # of NAMESPACE/NAME
    most: int = 0

    def allow(self, namespace: str, name: str) -> bool:
        """Tell whether a namespace may have a name."""
        return self.names is None or self.names.fullmatch(f"{namespace}/{name}") is not None


def pattern(listed: Iterable[Grant]) -> re.Pattern[str]:
    """Return one pattern for all: thousands of names are asked for in each cycle."""
    return re.compile("|".join(f"{_any(grant.namespaces)}/{_any(grant.names)}" for grant in listed) or "(?!)")


def _any(patterns: Sequence[str]) -> str:
    return f"(?:{'|'.join(map(_one, patterns))})"


def _one(text: str) -> str:
    """Return one pattern: between two stars the first place that fits will do, so no other is tried (`*a*a*a*a*b`)."""
    first, *middle = map(re.escape, text.split("*"))
    last = [f"[^/]*{middle.pop()}"] if middle else []
    return "".join([first, *(f"(?>[^/]*?{each})" for each in middle), *last])
