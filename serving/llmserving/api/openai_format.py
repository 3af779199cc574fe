"""How chat and text completions are written, whole and as events."""

from __future__ import annotations

import codecs
import time
import uuid
from typing import TYPE_CHECKING, Any

from llmserving.api import sse
from llmserving.text import Pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmserving.api.answer import Usage
    from llmserving.api.requests import StreamOptions
    from llmserving.engines.base import Token
    from llmserving.errors import ApiError
    from llmserving.generation import Delta, Result
    from llmserving.tokenizer import Tokenizer

LOWEST = -9999.0  # JSON has no minus infinity


def usage_numbers(usage: Usage) -> dict[str, Any]:
    """Return the usage as OpenAI's clients expect it."""
    return {
        "prompt_tokens": usage.prompt,
        "total_tokens": usage.total,
        "completion_tokens": usage.completion,
    }


class OpenAIFormat:
    """What both kinds have in common: identity, usage, the stream's end."""

    kind: str
    chunk_kind: str
    prefix: str

    def __init__(self, name: str, tokenizer: Tokenizer, options: StreamOptions | None, *, logprobs: bool) -> None:
        self._pieces = Pieces(tokenizer)
        self._logprobs = logprobs
        self._usage_at_end = bool(options and options.include_usage)
        self._usage_always = self._usage_at_end and bool(options and options.continuous_usage_stats)
        self._identity = {
            "id": f"{self.prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": name,
        }

    def usage(self, usage: Usage) -> dict[str, Any]:
        """Return the usage object."""
        return usage_numbers(usage)

    def whole(self, results: Sequence[Result], usage: Usage) -> dict[str, Any]:
        """Return the JSON of a finished answer."""
        choices = [
            {
                "index": index,
                **self._content(result),
                "logprobs": self._report(index, result.tokens),
                "finish_reason": result.finish,
                "stop_reason": result.stop_reason,
            }
            for index, result in enumerate(results)
        ]
        return {**self._identity, "object": self.kind, "choices": choices, "usage": self.usage(usage)}

    def start(self) -> bytes:
        """Return nothing: text has no opening."""
        return b""

    def delta(self, delta: Delta, usage: Usage) -> bytes:
        """Return the chunk of a delta, none for a token that has completed no text yet."""
        if not delta.text and not delta.finish and not self._logprobs:
            return b""
        choice: dict[str, Any] = {"index": delta.index, **self._delta(delta)}
        choice["logprobs"] = self._report(delta.index, delta.tokens)
        choice["finish_reason"] = delta.finish
        if delta.finish:
            choice["stop_reason"] = delta.stop_reason
        return self._chunk([choice], usage if self._usage_always else None)

    def end(self, usage: Usage) -> bytes:
        """Return the usage, if asked for, and the mark of the end."""
        return (self._chunk([], usage) if self._usage_at_end else b"") + sse.DONE

    def failure(self, error: ApiError) -> bytes:
        """Return the error as an event, and the mark of the end."""
        return sse.data(error.body()) + sse.DONE

    def _chunk(self, choices: list[dict[str, Any]], usage: Usage | None) -> bytes:
        value: dict[str, Any] = {**self._identity, "object": self.chunk_kind, "choices": choices}
        if usage is not None:
            value["usage"] = self.usage(usage)
        return sse.data(value)

    def _content(self, result: Result) -> dict[str, Any]:
        raise NotImplementedError

    def _delta(self, delta: Delta) -> dict[str, Any]:
        raise NotImplementedError

    def _report(self, index: int, tokens: Sequence[Token]) -> dict[str, Any] | None:
        raise NotImplementedError


class ChatFormat(OpenAIFormat):
    """chat.completion and its chunks."""

    kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"
    prefix = "chatcmpl"

    def __init__(self, *positional: Any, choices: int, **named: Any) -> None:  # noqa: ANN401
        super().__init__(*positional, **named)
        self._choices = choices

    def start(self) -> bytes:
        """Return each choice's role."""
        delta = {"role": "assistant", "content": ""}
        opening = [{"index": i, "delta": delta, "logprobs": None, "finish_reason": None} for i in range(self._choices)]
        return b"".join(self._chunk([choice], None) for choice in opening)

    def _content(self, result: Result) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": result.text}}

    def _delta(self, delta: Delta) -> dict[str, Any]:
        return {"delta": {"content": delta.text}}

    def _report(self, index: int, tokens: Sequence[Token]) -> dict[str, Any] | None:  # noqa: ARG002 - offsets need it
        if not self._logprobs:
            return None
        return {
            "content": [
                {
                    **self._entry(token.id, token.logprob),
                    "top_logprobs": [self._entry(*pair) for pair in token.top],
                }
                for token in tokens
            ]
        }

    def _entry(self, token_id: int, logprob: float | None) -> dict[str, Any]:
        text, raw = self._pieces.piece(token_id)
        bytes_ = None if raw is None else list(raw)  # all tokens' together are the text, whatever each shows
        return {"token": text, "logprob": max(LOWEST, logprob or 0.0), "bytes": bytes_}


class CompletionFormat(OpenAIFormat):
    """text_completion and its chunks; `echo` puts each choice's prompt before its text."""

    kind = "text_completion"
    chunk_kind = "text_completion"
    prefix = "cmpl"

    def __init__(self, *positional: Any, echo: Sequence[str] = (), **named: Any) -> None:  # noqa: ANN401
        super().__init__(*positional, **named)
        self._echo = dict(enumerate(echo))
        self._offsets: dict[int, tuple[int, codecs.IncrementalDecoder]] = {}

    def whole(self, results: Sequence[Result], usage: Usage) -> dict[str, Any]:
        """Return the JSON of a finished answer."""
        for index, result in enumerate(results):
            result.text = self._echo.pop(index, "") + result.text
        return super().whole(results, usage)

    def _content(self, result: Result) -> dict[str, Any]:
        return {"text": result.text}

    def _delta(self, delta: Delta) -> dict[str, Any]:
        return {"text": self._echo.pop(delta.index, "") + delta.text}

    def _report(self, index: int, tokens: Sequence[Token]) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        return {
            "text_offset": [self._offset(index, token.id) for token in tokens],
            "token_logprobs": [max(LOWEST, token.logprob or 0.0) for token in tokens],
            "tokens": [self._text(token.id) for token in tokens],
            "top_logprobs": [
                {self._text(other): max(LOWEST, logprob) for other, logprob in token.top} for token in tokens
            ],
        }

    def _text(self, token_id: int) -> str:
        """Return a token's text, or the bytes of a part of a character as OpenAI writes them, so that keys differ."""
        text, raw = self._pieces.piece(token_id)
        if raw is None or "\ufffd" not in text or raw == text.encode():
            return text
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)

    def _offset(self, index: int, token_id: int) -> int:
        """Return how many characters were whole before a choice's next token."""
        count, characters = self._offsets.setdefault(index, (0, codecs.getincrementaldecoder("utf-8")("replace")))
        text, raw = self._pieces.piece(token_id)
        length = len(text) if raw is None else len(characters.decode(raw))
        self._offsets[index] = count + length, characters
        return count
