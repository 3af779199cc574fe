"""What was told already, so that what comes and goes is told once."""

from __future__ import annotations

from collections.abc import Iterable

CALM = 300.0  # s without it before it is told anew; a reflector that fails at each turn is back within 60
MOST = 1000  # that are remembered; an API server may say each time something else


class Told:
    """Remember what is the matter, and what was a while ago; the time, monotonic, comes from whoever asks."""

    def __init__(self) -> None:
        self._there: set[str] = set()
        self._gone: dict[str, float] = {}  # what -> since when

    def news(self, words: Iterable[str], now: float) -> list[str]:
        """Take all that is the matter now, and return what of it is to be told."""
        there = dict.fromkeys(words)
        lately = {each: since for each, since in self._gone.items() if now - since < CALM}
        lately |= dict.fromkeys(self._there - there.keys(), now)
        new = [each for each in there if each not in self._there and each not in lately]
        self._there = set(there)
        self._gone = {each: since for each, since in lately.items() if each not in there} if len(lately) < MOST else {}
        return new
