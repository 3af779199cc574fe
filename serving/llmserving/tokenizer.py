"""Text to token ids and back, and chat templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class ChatTemplateError(ValueError):
    """The messages cannot be put into the model's chat format; the text says why."""


class Tokenizer(Protocol):
    """What the routes need of a tokenizer."""

    stop_ids: frozenset[int]
    vocabulary_size: int

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Return the token ids of a text, with the model's own prefix (BOS) if `special`."""
        ...

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """Return the text of token ids; `special` keeps special tokens."""
        ...

    def chat(self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> list[int]:
        """Return the token ids of a conversation, ready for the answer; raise ChatTemplateError."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that one token stands for, of half a character too."""
        ...


class ByteTokenizer:
    """One token a byte: the tokenizer of the echo engine. A chat is the text of its last message."""

    stop_ids = frozenset({256})
    vocabulary_size = 257

    def encode(self, text: str, *, special: bool = True) -> list[int]:  # noqa: ARG002 - there are none
        """Return the bytes of the text."""
        return list(text.encode())

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """Return the text of the bytes, U+FFFD for what is none."""
        text = bytes(i for i in ids if i < 256).decode(errors="replace")  # noqa: PLR2004
        return text + "</s>" if special and self.stop_ids.intersection(ids) else text

    def chat(self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> list[int]:  # noqa: ARG002
        """Return the bytes of the last message."""
        return self.encode(str(messages[-1].get("content") or ""))

    def token_bytes(self, token_id: int) -> bytes:
        """Return the byte."""
        return bytes([token_id]) if token_id < 256 else b""  # noqa: PLR2004
