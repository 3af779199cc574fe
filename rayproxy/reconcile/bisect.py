"""Find the changes that nginx takes, and name the ones that it does not.

One test for everything is the normal case. When that is refused, the file that nginx blames is tried alone; a file
that is only bad in company (two routes that collide) is found by halving, oldest first, so the younger one loses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rayproxy.nginx.process import ConfigRefusedError
from rayproxy.nginx.render import File

MAX_TESTS = 64  # 2 * log2(5000) + 2 for two bad ones, and then some

Files = Mapping[str, File]
Test = Callable[[Files], None]  # raises ConfigRefusedError


def accept(test: Test, start: Files, wishes: Sequence[str], desired: Files) -> tuple[dict[str, File], dict[str, str]]:
    """Return (the files that nginx takes, {refused file: nginx's words}).

    `start` must load by itself; `wishes`, one or more, are the names that should become as in `desired`, in order of
    precedence.
    Raises ConfigRefusedError when `start` does not load, or when too much is refused to be one route's fault.
    """
    search = _Search(test, start, desired)
    search.search(list(wishes))
    if search.refused and len(search.refused) == len(wishes):
        test(start)  # is it all of them, or what they are added to?
    return search.accepted, search.refused


class _Search:
    def __init__(self, test: Test, start: Files, desired: Files) -> None:
        self._test = test
        self._desired = desired
        self._tests_left = MAX_TESTS
        self._tried_alone: set[str] = set()
        self.accepted = dict(start)
        self.refused: dict[str, str] = {}

    def search(self, wishes: list[str]) -> None:
        error = self._try(wishes)
        if error is None:
            return
        if len(wishes) == 1:
            self.refused[wishes[0]] = str(error)
            return
        if error.file in wishes and (own_fault := self._own_fault(error.file)):
            self.refused[error.file] = str(own_fault)
            self.search([name for name in wishes if name != error.file])
            return
        middle = len(wishes) // 2
        self.search(wishes[:middle])
        self.search(wishes[middle:])

    def _own_fault(self, blamed: str) -> ConfigRefusedError | None:
        """Try the blamed file alone, once: of two that collide nginx blames the same one in every half."""
        if blamed in self._tried_alone:
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
        if self._tests_left == 0:
            raise ConfigRefusedError(
                f"{len(self.refused)} routes were refused and more would be: this is no single route's fault. "
                f"First: {next(iter(self.refused.values()), 'unknown')}"
            )
        self._tests_left -= 1
        try:
            self._test(self.accepted | {name: self._desired[name] for name in wishes})
        except ConfigRefusedError as error:
            return error
        return None
