"""What an operator grants: which namespaces may have which names, and how many routes each. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rayproxy.selector import Matcher

Labels = Mapping[str, str]
_NOTHING = re.compile("(?!)")


@dataclass(frozen=True, slots=True)
class Grant:
    """Let namespaces have names: patterns of both, in which a * is any text; `matches` is asked of labels besides."""

    namespaces: tuple[str, ...]
    names: tuple[str, ...]
    matches: Matcher | None = None


@dataclass(frozen=True, slots=True)
class Grants:
    """All that is granted: `names` None is every name to everyone, `most` 0 is any number of routes."""

    names: re.Pattern[str] | None = None  # of NAMESPACE/NAME
    most: int = 0
    by_labels: Callable[[str], re.Pattern[str]] = lambda _: _NOTHING  # {a namespace: which names its labels grant}

    def allow(self, namespace: str, name: str) -> bool:
        """Tell whether a namespace may have a name."""
        if self.names is None or self.names.fullmatch(f"{namespace}/{name}"):
            return True
        return self.by_labels(namespace).fullmatch(name) is not None


def resolve(listed: Iterable[Grant], labels: Mapping[str, Labels | None], most: int = 0) -> Grants:
    """Return what is granted while namespaces have these labels; None are labels that match nothing."""
    listed = list(listed)
    return Grants(pattern(each for each in listed if each.matches is None), most, _by_labels(listed, labels))


def pattern(listed: Iterable[Grant]) -> re.Pattern[str]:
    """Return one pattern for all: thousands of names are asked for in each cycle."""
    return re.compile("|".join(f"{_any(grant.namespaces)}/{_any(grant.names)}" for grant in listed) or "(?!)")


def _by_labels(listed: Iterable[Grant], labels: Mapping[str, Labels | None]) -> Callable[[str], re.Pattern[str]]:
    """Return what says which names a namespace's labels grant it; of those alone that are asked for, and once."""
    entries = [(re.compile(_any(each.namespaces)), each.matches, _any(each.names)) for each in listed if each.matches]

    @functools.cache
    def names(namespace: str) -> re.Pattern[str]:
        own = labels.get(namespace)
        if own is None:
            return _NOTHING
        found = [text for where, matches, text in entries if where.fullmatch(namespace) and matches(own)]
        return re.compile("|".join(found)) if found else _NOTHING

    return names


def _any(patterns: Sequence[str]) -> str:
    return f"(?:{'|'.join(map(_one, patterns))})"


def _one(text: str) -> str:
    """Return one pattern: between two stars the first place that fits will do, so no other is tried (`*a*a*a*a*b`)."""
    first, *middle = map(re.escape, text.split("*"))
    last = [f"[^/]*{middle.pop()}"] if middle else []
    return "".join([first, *(f"(?>[^/]*?{each})" for each in middle), *last])
