"""What an operator grants: which namespaces may have which names, and how many routes each. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rayproxy.selector import Matcher

Labels = Mapping[str, str]
_NOTHING = re.compile("(?!)")


@dataclass(frozen=True, slots=True)
class Grant:
    """Let namespaces have names: patterns of both, in which a * is any text; `matches` is asked of labels besides."""

    namespaces: tuple[str, ...]
    names: tuple[str, ...]
    matches: Matcher | None = None


class ByLabels:
    """Say which names a namespace's labels grant it: of those alone that are asked for, and once for the same labels.

    Where each of a thousand teams has an entry, that is a million looks at labels.
    """

    def __init__(self, listed: Iterable[Grant], labels: Mapping[str, Labels | None]) -> None:
        self._listed = [(re.compile(_any(each.namespaces)), each.matches, _any(each.names))
                        for each in listed if each.matches]  # fmt: skip
        self._labels = labels
        self._found: dict[str, re.Pattern[str]] = {}

    def names(self, namespace: str) -> re.Pattern[str]:
        """Return a pattern of them."""
        own = self._labels.get(namespace)
        if own is None:
            return _NOTHING
        if namespace not in self._found:
            found = [names for where, matches, names in self._listed if where.fullmatch(namespace) and matches(own)]
            self._found[namespace] = re.compile("|".join(found)) if found else _NOTHING
        return self._found[namespace]

    def relabelled(self, labels: Mapping[str, Labels | None]) -> ByLabels:
        """Return the same for other labels; what is known of namespaces that keep theirs goes on being so."""
        later = ByLabels((), labels)
        later._listed = self._listed
        same = (each for each in self._found if labels.get(each) == self._labels[each])
        later._found = {each: self._found[each] for each in same}
        return later


@dataclass(frozen=True, slots=True)
class Grants:
    """All that is granted: `names` None is every name to everyone, `most` 0 is any number of routes."""

    names: re.Pattern[str] | None = None  # of NAMESPACE/NAME
    most: int = 0
    by_labels: ByLabels = field(default_factory=lambda: ByLabels((), {}))

    def allow(self, namespace: str, name: str) -> bool:
        """Tell whether a namespace may have a name."""
        if self.names is None or self.names.fullmatch(f"{namespace}/{name}"):
            return True
        return self.by_labels.names(namespace).fullmatch(name) is not None

    def relabelled(self, labels: Mapping[str, Labels | None]) -> Grants:
        """Return what is granted once namespaces have these labels."""
        return replace(self, by_labels=self.by_labels.relabelled(labels))


def resolve(listed: Iterable[Grant], labels: Mapping[str, Labels | None], most: int = 0) -> Grants:
    """Return what is granted while namespaces have these labels; None are labels that match nothing."""
    listed = list(listed)
    return Grants(pattern(each for each in listed if each.matches is None), most, ByLabels(listed, labels))


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
