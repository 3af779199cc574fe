"""An answer is cut exactly at stop strings, however it comes in pieces. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from llmserving.tokenizer import SpecialTokens

FIRST_MARK = 0xD800  # half a surrogate pair, which is in no text: neither an answer's nor a request's


@dataclass(frozen=True, slots=True)
class Stops:
    """Stop strings, ready to be looked for: found once, for all sequences of a request.

    A special token has no text: where a stop string names one, a mark stands for it.
    """

    strings: Mapping[str, str]  # what is looked for, and the stop string that it is
    marks: Mapping[int, str]  # by the tokens' ids


NO_STOPS = Stops(MappingProxyType({}), MappingProxyType({}))


def find_stops(stops: Sequence[str], special: SpecialTokens) -> Stops:
    """Return what to look for: a special token that a stop string names may come as such, or in letters."""
    names = sorted(dict.fromkeys(name for stop in stops for name in special.within(stop)), key=len, reverse=True)
    marks = {name: chr(FIRST_MARK + place) for place, name in enumerate(names)}
    strings = {_marked(stop, marks.items()): stop for stop in stops} | {stop: stop for stop in stops}
    return Stops(strings, {special[name]: mark for name, mark in marks.items()})


class StopScanner:
    """Let text through up to the first stop string, holding back what may be the beginning of one."""

    def __init__(self, stops: Stops) -> None:
        self._stops, self._marks = stops.strings, stops.marks
        self._invisible = str.maketrans(dict.fromkeys(stops.marks.values(), ""))
        self._held = ""

    def mark(self, token_id: int) -> str:
        """Return what stands for a token in the text to push, where a stop string names it."""
        return self._marks.get(token_id, "")

    def push(self, text: str) -> tuple[str, str | None]:
        """Return the text that is safe to send, and the stop string if it was reached."""
        text = self._held + text
        found = [(text.find(stop) + len(stop), -len(stop), stop) for stop in self._stops if stop in text]
        if found:  # the one that is complete first, however the text was cut into pieces
            end, _, stop = min(found)
            self._held = ""
            return self._visible(text[: end - len(stop)]), self._stops[stop]
        keep = max((self._overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return self._visible(text[: len(text) - keep]), None

    def finish(self) -> str:
        """Return what was held back: it was no stop string after all."""
        return self._visible(self._held)

    def _visible(self, text: str) -> str:
        return text.translate(self._invisible) if self._marks else text

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Return the length of the longest end of the text that a stop string begins with."""
        lengths = range(min(len(stop) - 1, len(text)), 0, -1)
        return next((length for length in lengths if text.endswith(stop[:length])), 0)


def _marked(stop: str, marks: Iterable[tuple[str, str]]) -> str:
    for name, mark in marks:  # the longest first: one may have another in it
        stop = stop.replace(name, mark)
    return stop
