"""Text to token ids and back, and chat templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from llmserving import rendering
from llmserving.rendering import ChatTemplateError
from llmserving.spelling import Spelling, spelling_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

BYTES = 256


class Tokenizer(Protocol):
    """What the routes need of a tokenizer."""

    stop_ids: frozenset[int]
    vocabulary_size: int
    longest_token: int  # in characters
    spelling: Spelling
    has_chat_template: bool
    template_options: frozenset[str]  # what the chat template reads and a caller may set

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Return the token ids of a text, with the model's own prefix (BOS) if `special`."""
        ...

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """Return the text of token ids; `special` keeps special tokens."""
        ...

    def render(self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> str:
        """Return the text of a conversation, ready for the answer, special tokens and all; raise ChatTemplateError."""
        ...


class ByteTokenizer:
    """One token a byte: the tokenizer of the echo engine. A chat is the text of its last message."""

    stop_ids = frozenset({BYTES})
    vocabulary_size = BYTES + 1
    longest_token = 1
    spelling = Spelling(lambda token_id: bytes([token_id]) if token_id < BYTES else b"")
    has_chat_template = True
    template_options: frozenset[str] = frozenset()

    def encode(self, text: str, *, special: bool = True) -> list[int]:  # noqa: ARG002 - there are none
        """Return the bytes of the text."""
        return list(text.encode())

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """Return the text of the bytes, U+FFFD for what is none."""
        text = bytes(i for i in ids if i < BYTES).decode(errors="replace")
        return text + "</s>" if special and self.stop_ids.intersection(ids) else text

    def render(self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> str:  # noqa: ARG002
        """Return the last message."""
        return str(messages[-1]["content"])


class ModelTokenizer:
    """A model's own tokenizer, from a folder, with the ids that end its answers."""

    def __init__(self, folder: Path, *, stop_ids: Iterable[int], template: Path | None, trust: bool) -> None:
        from transformers import AutoTokenizer  # noqa: PLC0415 - takes seconds, and the echo engine needs none

        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=trust)
        if template is not None:
            self._tokenizer.chat_template = template.read_text(encoding="utf-8")
        self._tokenizer("")  # drops the file's truncation and padding: later calls, in any thread, change nothing
        own = self._tokenizer.eos_token_id
        self.stop_ids = frozenset(stop_ids) | ({own} if own is not None else frozenset())
        vocabulary = self._tokenizer.get_vocab()
        self.vocabulary_size = max(vocabulary.values()) + 1
        self.longest_token = max(map(len, vocabulary))
        self.spelling = spelling_of(self._tokenizer)
        self.has_chat_template = bool(self._tokenizer.chat_template)
        self.template_options = rendering.prepare(self._tokenizer) if self.has_chat_template else frozenset()

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Return the token ids of a text, with the model's own prefix (BOS) if `special`."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special)
        return ids

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """Return the text of token ids; `special` keeps special tokens."""
        return str(
            self._tokenizer.decode(list(ids), skip_special_tokens=not special, clean_up_tokenization_spaces=False)
        )

    def render(self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> str:
        """Return the text of a conversation, ready for the answer, special tokens and all; raise ChatTemplateError."""
        if not self.has_chat_template:
            raise ChatTemplateError(
                "the model has no chat template: send a text to /v1/completions, or set SERVING_CHAT_TEMPLATE"
            )
        from jinja2 import TemplateError  # noqa: PLC0415 - comes with the models

        try:
            return str(
                self._tokenizer.apply_chat_template(
                    [dict(message) for message in messages],
                    tokenize=False,
                    **{"add_generation_prompt": True, **options},
                )
            )
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise ChatTemplateError(f"the model's chat template does not take these messages: {error}") from error
