"""Token ids to text as they come: whole characters only. No I/O."""

from __future__ import annotations

import codecs
import functools
from os.path import commonprefix
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmserving.tokenizer import Tokenizer

REPLACEMENT = "\ufffd"  # what a decoder shows for bytes that are no character
HALF_CHARACTER = 3  # bytes of an incomplete character, and so at most that many replacements
CONTEXT_TOKENS = 6  # enough for a decoder to know whether a word goes on
LONG_WINDOW = 24  # tokens: as many without an end are no character, but broken


class Detokenizer:
    """Turn one sequence's tokens into text, holding back a character until it is whole.

    Bytes are put together here, by Python's own decoder: tokenizers' byte-fallback decoder takes back characters that
    were whole when a broken byte follows them. All else is what the tokenizer makes of a token beside its neighbours.
    `context` are the tokens that the text goes on after, none for a text of its own.
    """

    def __init__(self, tokenizer: Tokenizer, context: Sequence[int] = ()) -> None:
        self._spelling = tokenizer.spelling
        self._characters = codecs.getincrementaldecoder("utf-8")(self._spelling.errors)
        self._window = Window(tokenizer, [i for i in context if self._spelling.raw(i) != b""])

    def push(self, token_id: int) -> str:
        """Return the text that this token completes, empty while a character is incomplete."""
        raw = self._spelling.raw(token_id)
        if raw == b"":
            return ""
        if raw is None or (self._window.is_empty and raw.isascii()):  # a decoder may drop a text's first blank
            return self._characters.decode(b"", final=True) + self._window.push(token_id)
        self._window.pass_by(token_id)
        return self._characters.decode(raw)

    def finish(self) -> str:
        """Return what was held back: half a character, as the decoder shows it."""
        return self._window.finish() + self._characters.decode(b"", final=True)


def letter(tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of a text that changes nothing of its neighbours, but that they are not alone."""
    return tokenizer.encode("a", special=False)


class Window:
    """The text of tokens that depends on their neighbours (a leading blank): a few are decoded together.

    They are the tokens since the last place where text and tokens ended together, and those just before it.
    """

    def __init__(self, tokenizer: Tokenizer, context: Sequence[int]) -> None:
        self._decode = tokenizer.decode
        self._splits = tokenizer.spelling.splits
        self._tokenizer = tokenizer
        self._tokens = list(context[-CONTEXT_TOKENS:])
        self._settled = len(self._tokens)  # tokens whose text has been sent
        self._sent: int | None = None  # characters of the window's text; None: all

    @property
    def is_empty(self) -> bool:
        """Return whether this is the beginning of a text."""
        return not self._tokens

    def push(self, token_id: int) -> str:
        """Return the new text, without what may be half a character or change with the next token."""
        sent = len(self._decode(self._tokens)) if self._sent is None else self._sent
        self._tokens.append(token_id)
        text = self._decode(self._tokens)
        final = self._final(text) if self._splits else len(text)
        new = text[sent:final]
        self._sent = sent + len(new)
        if new and final == len(text):
            self._settle()
        elif len(self._tokens) > LONG_WINDOW:
            self._shorten(text)
        return new

    def _settle(self) -> None:
        """Move the window: what it held before the last place is no longer needed, unless only blanks are left."""
        rest = self._tokens[self._settled :]
        text = self._decode(rest)
        if not text.strip():  # which a decoder may drop at the beginning of a text
            rest = [*self._letter, *rest]
            text = self._decode(rest)
        self._tokens, self._settled, self._sent = rest, len(rest), len(text)

    @functools.cached_property
    def _letter(self) -> list[int]:
        return letter(self._tokenizer)

    def _final(self, text: str) -> int:
        """Return how many characters of the window's text stay as they are, whatever follows."""
        text = commonprefix([text, self._decode([*self._tokens, *self._letter])])  # noqa: RUF071 - no paths
        return len(text) - min(HALF_CHARACTER, len(text) - len(text.rstrip(REPLACEMENT)))

    def pass_by(self, token_id: int) -> None:
        """Take notice of a token whose text is known."""
        self._tokens = [*self._tokens[1 - CONTEXT_TOKENS :], token_id]
        self._settled, self._sent = len(self._tokens), None

    def finish(self) -> str:
        """Return the text that was held back."""
        return "" if self._sent is None else self._decode(self._tokens)[self._sent :]

    def _shorten(self, text: str) -> None:
        """Forget the beginning of a window that does not end, if no character is cut there."""
        first, rest = self._tokens[:-CONTEXT_TOKENS], self._tokens[-CONTEXT_TOKENS:]
        before = self._decode(first)
        if before + self._decode(rest) == text and self._sent is not None and self._sent >= len(before):
            self._tokens, self._settled, self._sent = rest, 0, self._sent - len(before)


class Pieces:
    """The text and the bytes of single tokens, as they are in the middle of a text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def piece(self, token_id: int) -> tuple[str, bytes | None]:
        """Return a token's text, and its bytes unless they are unknown: a part of a character has no text but them."""
        spelling = self._tokenizer.spelling
        raw = spelling.raw(token_id)
        if raw:
            return raw.decode(errors=spelling.errors), raw
        if raw is None:
            anchor, length = self._anchor
            text = self._tokenizer.decode([*anchor, token_id])[length:]
        else:
            text = self._tokenizer.decode([token_id], special=True)
        return text, None if spelling.splits and REPLACEMENT in text else text.encode()

    @functools.cached_property
    def _anchor(self) -> tuple[list[int], int]:
        """Return the tokens of what stands before a token, and the length of their text."""
        ids = letter(self._tokenizer)
        return ids, len(self._tokenizer.decode(ids))
