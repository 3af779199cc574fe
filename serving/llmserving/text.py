"""Token ids to text as they come: whole characters only, cut exactly at stop strings. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmserving.tokenizer import Tokenizer

REPLACEMENT = "\ufffd"  # what a decoder shows for half a character
LONGEST_CHARACTER = 4  # bytes in UTF-8, and so the tokens that one character can take
CONTEXT_TOKENS = 6  # of the prompt: enough for a decoder to know whether a word goes on


class Detokenizer:
    """Turn one sequence's tokens into text, holding back a character until it is whole.

    A token's text depends on its neighbours (a leading blank, half a character), so a short window is decoded
    with and without the new token: the difference is the new text.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._window = list(prompt[-CONTEXT_TOKENS:])
        self._done = len(self._window)
        self._done_text = tokenizer.decode(self._window)

    def push(self, token_id: int) -> str:
        """Return the text that this token completes, empty while a character is incomplete."""
        self._window.append(token_id)
        text = self._tokenizer.decode(self._window)
        held = len(self._window) - self._done
        if text.endswith(REPLACEMENT) and held < LONGEST_CHARACTER:
            return ""
        new = text[len(self._done_text) :]
        if new:
            self._window = self._window[self._done :]
            self._done = len(self._window)
            self._done_text = self._tokenizer.decode(self._window)
        return new

    def finish(self) -> str:
        """Return what was held back, without the half character at its end."""
        text = self._tokenizer.decode(self._window)
        return text[len(self._done_text) :].rstrip(REPLACEMENT)


class StopScanner:
    """Let text through up to the first stop string, holding back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str) -> tuple[str, str | None]:
        """Return the text that is safe to send, and the stop string if it was reached."""
        text = self._held + text
        found = [(text.find(stop), stop) for stop in self._stops if stop in text]
        if found:
            position, stop = min(found, key=lambda pair: pair[0])
            self._held = ""
            return text[:position], stop
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
