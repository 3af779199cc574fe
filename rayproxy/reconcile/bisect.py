"""Find the changes that nginx takes, and name the ones that it does not.

One test for everything is the normal case. When that is refused, the file that nginx blames is tried alone; a file
that is only bad in company (two routes that collide) is found by halving, oldest first, so the younger one loses. When
the tests run out, what was not accepted counts as refused: it stays as it is, and holds up nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from rayproxy.nginx.process import ConfigRefusedError
from rayproxy.nginx.render import File

MAX_TESTS = 64  # 2 * log2(5000) + 2 for two bad ones, and then some

Files = Mapping[str, File]
Test = Callable[[Files], None]  # raises ConfigRefusedError


class Refusal(NamedTuple):
    """Say in nginx's words why a file is left out; not `alone`, it was refused with others and no test was left."""

    words: str
    alone: bool = True


Refusals = dict[str, Refusal]


class TooManyRefusedError(ConfigRefusedError):
    """Say that nothing was accepted before the tests ran out; `refused` is what was refused alone."""

    def __init__(self, message: str, refused: Refusals) -> None:
        super().__init__(message)
        self.refused = refused


def accept(
    test: Test, start: Files, wishes: Sequence[str], desired: Files, *, live: bool = True
) -> tuple[dict[str, File], Refusals]:
    """Return (the files that nginx takes, {refused file: why}).

    `start` must load by itself; `wishes`, one or more, are the names that should become as in `desired`, in order of
    precedence. `live` says that a route is live, in `start` or about to go.
    Raises ConfigRefusedError when `start` does not load, and TooManyRefusedError when too much is refused to be one
    route's fault: more than there are tests for, and no route is live that could stay or go.
    """
    search = _Search(test, start, desired)
    search.search(list(wishes))
    refused = search.refused | dict.fromkeys(search.untried, Refusal(search.why_untried, alone=False))
    if len(refused) == len(wishes):
        test(start)  # is it all of them, or what they are added to?
        if search.untried and not live:
            raise TooManyRefusedError(f"this is no single route's fault: {search.why_untried}", search.refused)
    return search.accepted, refused


class _Search:
    def __init__(self, test: Test, start: Files, desired: Files) -> None:
        self._test = test
        self._desired = desired
        self._tests_left = MAX_TESTS - 1  # one is for `start`
        self._tried_alone: set[str] = set()
        self.accepted = dict(start)
        self.refused: Refusals = {}
        self.untried: list[str] = []
        self._first_words = ""

    @property
    def why_untried(self) -> str:
        """Return what is told of a file that was refused in company only."""
        return (
            f"with others, of which {len(self.refused)} were refused before it could be tried alone. "
            f"First: {self._first_words}"
        )

    def search(self, wishes: list[str]) -> None:
        if not self._tests_left:
            self.untried += wishes
            return
        error = self._try(wishes)
        if error is None:
            return
        if len(wishes) == 1:
            self.refused[wishes[0]] = Refusal(str(error))
            return
        if error.file in wishes and (own_fault := self._own_fault(error.file)):
            self.refused[error.file] = Refusal(str(own_fault))
            self.search([name for name in wishes if name != error.file])
            return
        middle = len(wishes) // 2
        self.search(wishes[:middle])
        self.search(wishes[middle:])

    def _own_fault(self, blamed: str) -> ConfigRefusedError | None:
        """Try the blamed file alone, once: of two that collide nginx blames the same one in every half."""
        if blamed in self._tried_alone or not self._tests_left:
            return None
        self._tried_alone.add(blamed)
        return self._refusal([blamed])

    def _try(self, wishes: list[str]) -> ConfigRefusedError | None:
        """Accept the wishes if they pass together with all accepted before, else return why not."""
        error = self._refusal(wishes)
        if error is None:
            self.accepted |= {name: self._desired[name] for name in wishes}
        return error

    def _refusal(self, wishes: list[str]) -> ConfigRefusedError | None:
        self._tests_left -= 1
        try:
            self._test(self.accepted | {name: self._desired[name] for name in wishes})
        except ConfigRefusedError as error:
            self._first_words = self._first_words or str(error)
            return error
        return None
