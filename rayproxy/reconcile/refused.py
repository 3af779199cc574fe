"""What nginx refused, so that it is not tried again with each cycle. Pure but for what it holds."""

from __future__ import annotations

from collections.abc import Mapping

from rayproxy.reconcile.bisect import Refusal, Refusals


class Refused:
    """Hold the files that nginx refused, each as it was then.

    `searching` says that none was accepted before the tests ran out, and that no route is live: the next cycle goes on
    with the others.
    """

    def __init__(self) -> None:
        self.searching = False
        self._refusals: dict[str, tuple[str, Refusal]] = {}  # file -> (digest, why)

    def note(self, refused: Refusals, sums: Mapping[str, str]) -> None:
        """Hold what was refused just now; `sums` are the digests of all that was wished for."""
        self._refusals |= {name: (sums[name], why) for name, why in refused.items()}

    def words(self, sums: Mapping[str, str]) -> dict[str, str]:
        """Return {file: nginx's words} of those that are wished for again as they were."""
        return {name: why.words for name, (digest, why) in self._refusals.items() if sums.get(name) == digest}

    def give_another_chance(self) -> None:
        """Forget what was refused, but while a search goes on that would begin anew."""
        if not self.searching:
            # those for which no test was left go first: with the others there would be none left again
            tried = {name: (digest, why) for name, (digest, why) in self._refusals.items() if why.alone}
            self._refusals = tried if len(tried) < len(self._refusals) else {}
