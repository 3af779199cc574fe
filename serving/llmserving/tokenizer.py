"""Text to token ids and back, and chat templates."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from llmserving import rendering
from llmserving.chat_template import Form, find_form
from llmserving.overtime import OvertimeError
from llmserving.rendering import SECONDS, ChatTemplateError
from llmserving.spelling import Spelling, added_tokens, spelling_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from llmserving.chat_template import Messages

log = logging.getLogger(__name__)

BYTES = 256


class SpecialTokens(dict[str, int]):
    """The ids of tokens that have no text, by their names."""

    def __init__(self, ids: Mapping[str, int]) -> None:
        super().__init__(ids)
        self._lengths = sorted(set(map(len, ids)))

    def within(self, text: str) -> Iterator[str]:
        """Yield the names that are in a text: its pieces are looked up, for there may be 65,536 names."""
        pieces = (text[at : at + length] for length in self._lengths for at in range(len(text) - length + 1))
        return (piece for piece in pieces if piece in self)


class Tokenizer(Protocol):
    """What the routes need of a tokenizer."""

    stop_ids: frozenset[int]
    vocabulary_size: int
    longest_token: int  # in characters
    spelling: Spelling
    special_tokens: SpecialTokens
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
    special_tokens = SpecialTokens({"</s>": BYTES})
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
    """A model's own tokenizer, from its folders, with the ids that end its answers."""

    def __init__(
        self,
        *folders: Path,
        trust: bool,
        stop_ids: Iterable[int] = (),
        template: Path | None = None,
        chats: bool = True,
    ) -> None:
        """Load the first folder's tokenizer; what it lacks is the next one's. Without `chats` no template is read."""
        from llmserving.loading.tokenizer import (  # noqa: PLC0415 - echo needs no torch
            load_tokenizer,
            read_template,
            template_file,
        )

        self._tokenizer, lender = load_tokenizer(folders, trust=trust)
        self._tokenizer("")  # drops the file's truncation and padding: later calls, in any thread, change nothing
        own = self._tokenizer.eos_token_id
        self.stop_ids = frozenset(stop_ids) | ({own} if own is not None else frozenset())
        vocabulary = self._tokenizer.get_vocab()
        self.vocabulary_size = max(vocabulary.values()) + 1
        self.longest_token = max(map(len, vocabulary))
        self.spelling = spelling_of(self._tokenizer)
        named = {*added_tokens(self._tokenizer), *self._tokenizer.all_special_tokens} & vocabulary.keys()
        self.special_tokens = SpecialTokens(
            {name: vocabulary[name] for name in named if self.spelling.raw(vocabulary[name]) == b""}
        )
        self.has_chat_template = False
        self.template_options: frozenset[str] = frozenset()
        self._form = Form()
        if template is not None:
            self._tokenizer.chat_template = read_template(template)
        if chats and self._tokenizer.chat_template:
            self._take_template(template or template_file(lender))

    def _take_template(self, file: Path) -> None:
        """Find out what the chat template reads and takes; raise ValueError with its file where it is none."""
        self.has_chat_template = True
        self.template_options = rendering.prepare(self._tokenizer, file)
        try:
            self._form = find_form(self._apply)
        except OvertimeError as error:
            raise ValueError(
                f"{file}: its chat template was still at work on three messages after {SECONDS:g} seconds"
            ) from error
        if self._form.loses_words:
            log.error("the chat template %s: conversations are refused", self._form.refusal([]))

    def lower(self) -> None:
        """Read capitals as small letters from now on; raise ValueError for a tokenizer that is code in Python."""
        from tokenizers.normalizers import Lowercase, Sequence  # noqa: PLC0415 - comes with the models

        if not self._tokenizer.is_fast:
            raise ValueError(f"{self._tokenizer.name_or_path}: do_lower_case is not served with its kind of tokenizer")
        backend = self._tokenizer.backend_tokenizer
        backend.normalizer = Sequence([Lowercase(), *([backend.normalizer] if backend.normalizer else [])])

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
        if refusal := self._form.refusal(messages):
            raise ChatTemplateError(
                f"the model's chat template {refusal} (/v1/completions takes a text; SERVING_CHAT_TEMPLATE, "
                "another template)"
            )
        from jinja2 import TemplateError  # noqa: PLC0415 - comes with the models

        try:
            return self._apply(self._form.shape(messages), **options)
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise ChatTemplateError(f"the model's chat template does not take these messages: {error}") from error

    def _apply(self, messages: Messages, **options: Any) -> str:  # noqa: ANN401 - the template's own
        how = {"add_generation_prompt": True, **options}
        return str(self._tokenizer.apply_chat_template(list(messages), tokenize=False, **how))
