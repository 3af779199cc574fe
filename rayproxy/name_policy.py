"""Say what is granted now, by the file that RAYPROXY_NAME_POLICY names and by the labels of namespaces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from rayproxy.kinds.grants import Grant, Grants, Labels, resolve
from rayproxy.policy_file import PolicyError, parse, read
from rayproxy.sources.base import NotSyncedError


class KnownLabels(Protocol):
    """What is known of the labels of namespaces; nobody asks for them but while they are needed."""

    @property
    def words(self) -> str:
        """Return how they can be read at the moment."""
        ...

    @property
    def problems(self) -> tuple[str, ...]:
        """Return what is wrong with those that are known."""
        ...

    def need(self, *, needed: bool) -> None:
        """Say whether they are needed from now on."""
        ...

    def known(self) -> Mapping[str, Labels | None] | None:
        """Return those of every namespace, None before they were read: unknown is not empty."""
        ...

    def look(self) -> None:
        """Read them again where they are needed; raise UnconfirmedError."""
        ...


class NamePolicy:
    """Return what is granted now: the file is read again, and the last good one goes on where a later one is not."""

    def __init__(self, path: Path | None, most: int, labels: KnownLabels | None = None) -> None:
        self._path = path
        self._most = most
        self._labels = labels
        self._listed: tuple[Grant, ...] = ()
        self._text: bytes | None = None
        self._good: Grants | None = None
        self._made_of: tuple[object, object] = None, None
        if path:
            self._take(path)  # at the start there is no last good one, and without one everything would be granted

    def __call__(self) -> tuple[Grants, tuple[str, ...]]:
        """Return it, and what is wrong with the file; raise NotSyncedError where nothing is known to go on with."""
        if self._path is None:
            return Grants(most=self._most), ()
        problems: tuple[str, ...] = ()
        try:
            self._take(self._path)
        except PolicyError as error:
            problems = (f"{error}; the last good one is used",)
        grants, wrong = self._in_force(self._path)
        return grants, problems + wrong

    def confirm(self) -> None:
        """Read the labels again that it goes by, if it does; raise UnconfirmedError."""
        if self._labels and self._by_labels and self._labels.known() is not None:
            self._labels.look()

    @property
    def _by_labels(self) -> bool:
        return any(grant.matches for grant in self._listed)

    def _take(self, path: Path) -> None:
        text = read(path)
        if text == self._text:
            return
        self._listed = parse(path, text, labels=self._labels is not None)
        self._text = text
        if self._labels:
            self._labels.need(needed=self._by_labels)

    def _in_force(self, path: Path) -> tuple[Grants, tuple[str, ...]]:
        """Return what the file grants, or what was granted before while the labels that it goes by are not known."""
        if self._labels is None or not self._by_labels:
            return self._resolved({}), ()
        labels = self._labels.known()
        if labels is not None:
            return self._resolved(labels), self._labels.problems
        words = f"the name policy {path} goes by labels of namespaces, which are not known yet ({self._labels.words})"
        if self._good is None:
            raise NotSyncedError(words)
        return self._good, (f"{words}; until then what was granted before is",)

    def _resolved(self, labels: Mapping[str, Labels | None]) -> Grants:
        listed, known = self._made_of
        if self._good is None or listed is not self._listed:
            self._good = resolve(self._listed, labels, self._most)
        elif known != labels:
            self._good = self._good.relabelled(labels)
        self._made_of = self._listed, labels
        return self._good
