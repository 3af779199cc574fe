"""Which bytes a token stands for, where its tokenizer's decoder says so: text is put together from them."""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
EACH_BYTE = "llmserving-each-byte"  # how the byte-fallback decoder shows what is no character

codecs.register_error(EACH_BYTE, lambda error: ("\ufffd" * (error.end - error.start), error.end))  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Spelling:
    """How the tokens of one tokenizer become text.

    `raw` returns the bytes of a token, none for one that has no text; None where its neighbours decide on its text.
    `errors` is how bytes are shown that are no character. `splits`: what `raw` does not know may be half a character.
    """

    raw: Callable[[int], bytes | None]
    errors: str = "replace"
    splits: bool = False


def spelling_of(tokenizer: Any) -> Spelling:  # noqa: ANN401 - transformers' tokenizers have no common type here
    """Return how a transformers tokenizer spells, by the decoder of its file; Python ones tell only what they skip."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        skipped = frozenset(tokenizer.all_special_ids)
        return Spelling(lambda token_id: b"" if token_id in skipped else None, splits=True)
    vocabulary = backend.get_vocab(with_added_tokens=False)
    added = backend.get_added_tokens_decoder()
    special = frozenset(token_id for token_id, token in added.items() if token.special)
    kinds = set(_kinds(json.loads(backend.decoder.__getstate__()))) if backend.decoder else set()
    if kinds == {"ByteLevel"}:
        read, errors = _byte_level(), "replace"
    elif "ByteFallback" in kinds and "ByteLevel" not in kinds:
        read, errors = _byte_fallback, EACH_BYTE
    else:
        read, errors = _unknown, "replace"

    # tokenizers takes the letters of an added token for bytes too, and decodes "naïve" to "na\ufffdve".
    plain = {i: str(token.content) for i, token in added.items() if token.content not in vocabulary}

    def raw(token_id: int) -> bytes | None:
        token = backend.id_to_token(token_id)
        if token is None or token_id in special:
            return b""
        return plain[token_id].encode() if kinds == {"ByteLevel"} and token_id in plain else read(token)

    return Spelling(raw, errors, splits=read is _unknown and "ByteLevel" in kinds)


def added_tokens(tokenizer: Any) -> dict[str, int]:  # noqa: ANN401
    """Return the ids of a transformers tokenizer's added tokens; mistral_common's has none to ask for."""
    added: dict[str, int] = getattr(tokenizer, "get_added_vocab", dict)()
    return added


def _kinds(decoder: dict[str, Any]) -> Iterator[str]:
    """Yield the kinds of decoder that one is made of."""
    if decoder["type"] == "Sequence":
        for part in decoder["decoders"]:
            yield from _kinds(part)
    else:
        yield decoder["type"]


def _byte_level() -> Callable[[str], bytes | None]:
    """Return what reads tokens whose characters stand for bytes, as GPT-2 has it."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode  # noqa: PLC0415 - brings torch

    table: dict[str, int] = {character: byte for byte, character in bytes_to_unicode().items()}

    def read(token: str) -> bytes | None:
        return bytes(map(table.__getitem__, token)) if table.keys() >= set(token) else None

    return read


def _byte_fallback(token: str) -> bytes | None:
    match = BYTE_TOKEN.fullmatch(token)
    return None if match is None else bytes.fromhex(match[1])


def _unknown(token: str) -> bytes | None:  # noqa: ARG001 - one of three that read tokens
    return None
