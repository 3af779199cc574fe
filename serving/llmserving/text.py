"""Token ids to text as they come: whole characters only, cut exactly at stop strings. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmserving.tokenizer import Tokenizer

REPLACEMENT = "\ufffd"  # what a decoder shows for bytes that are no character
HALF_CHARACTER = 3  # bytes of an incomplete character, and so at most that many replacements
CONTEXT_TOKENS = 6  # of the prompt: enough for a decoder to know whether a word goes on


class Detokenizer:
    """Turn one sequence's tokens into text, holding back a character until it is whole.

    A token's text depends on its neighbours (a leading blank, half a character), so a short window is decoded:
    the tokens since the last place where text and tokens ended together, and those just before it.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._window = list(prompt[-CONTEXT_TOKENS:])
        self._settled = len(self._window)  # tokens whose text has been sent
        self._sent = len(tokenizer.decode(self._window))  # characters of the window's text

    def push(self, token_id: int) -> str:
        """Return the text that this token completes, empty while a character is incomplete."""
        self._window.append(token_id)
        text = self._tokenizer.decode(self._window)
        held = min(HALF_CHARACTER, len(text) - len(text.rstrip(REPLACEMENT)))
        new = text[self._sent : len(text) - held]
        self._sent += len(new)
        if new and not held:
            self._settle()
        return new

    def _settle(self) -> None:
        """Move the window: what it held before the last place is no longer needed."""
        self._window = self._window[self._settled :]
        self._settled = len(self._window)
        self._sent = len(self._tokenizer.decode(self._window))


class StopScanner:
    """Let text through up to the first stop string, holding back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str) -> tuple[str, str | None]:
        """Return the text that is safe to send, and the stop string if it was reached."""
        text = self._held + text
        found = [(text.find(stop) + len(stop), -len(stop), stop) for stop in self._stops if stop in text]
        if found:  # the one that is complete first, however the text was cut into pieces
            end, _, stop = min(found)
            self._held = ""
            return text[: end - len(stop)], stop
        keep = max((self._overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], None

    def finish(self) -> str:
        """Return what was held back: it was no stop string after all."""
        return self._held

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Return the length of the longest end of the text that a stop string begins with."""
        lengths = range(min(len(stop) - 1, len(text)), 0, -1)
        return next((length for length in lengths if text.endswith(stop[:length])), 0)
