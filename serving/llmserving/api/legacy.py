"""POST /inference and POST /chat/completions: as the console and the gateway have always called them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from llmserving.api.answer import GenerationResponse, Usage
from llmserving.api.body import JsonRoute, body_of, parse_forgiving, read
from llmserving.api.openai import chat_answer
from llmserving.api.openai_format import ChatFormat
from llmserving.api.requests import ChatRequest, InferenceRequest
from llmserving.api.sequences import encode, encode_chat, sampling
from llmserving.generation import SequenceRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmserving.errors import ApiError
    from llmserving.generation import Delta, Result
    from llmserving.server import Server


class InferenceFormat:
    """Four strings, and the misspelt one that the console reads."""

    def whole(self, results: Sequence[Result], usage: Usage) -> dict[str, Any]:
        """Return the JSON of a finished answer."""
        seconds = f"{usage.seconds:.3f}"
        return {
            "output": results[0].text,
            "tokenLength": str(usage.total),
            "elapsedTime": seconds,
            "elaspedTime": seconds,
            "tokenPerSec": f"{usage.rate:.2f}",
        }

    def start(self) -> bytes:
        """Return nothing: the route does not stream."""
        return b""

    def delta(self, delta: Delta, usage: Usage) -> bytes:  # noqa: ARG002
        """Return nothing: the route does not stream."""
        return b""

    def end(self, usage: Usage) -> bytes:  # noqa: ARG002
        """Return nothing: the route does not stream."""
        return b""

    def failure(self, error: ApiError) -> bytes:  # noqa: ARG002
        """Return nothing: the route does not stream."""
        return b""


class LegacyChatFormat(ChatFormat):
    """A chat completion whose usage is strings: the gateway decodes it into strings."""

    def usage(self, usage: Usage) -> dict[str, Any]:
        """Return the usage object; `elasped_time` is how the gateway spells it."""
        return {
            "prompt_tokens": str(usage.prompt),
            "completion_tokens": str(usage.completion),
            "total_tokens": str(usage.total),
            "elasped_time": f"{usage.seconds:.3f}",
            "token_per_sec": f"{usage.rate:.2f}",
        }


def router(server: Server) -> APIRouter:
    """Return both routes."""
    routes = APIRouter(route_class=JsonRoute)

    @routes.post("/inference", response_model=None)
    async def inference(request: Request) -> GenerationResponse:
        body = await read(InferenceRequest, await body_of(request), parse_forgiving)
        prompt = await _prompt(server, body.input)
        continues = not server.tokenizer.has_chat_template  # then the text is no question: it goes on as it is
        sequence = SequenceRequest(
            0, tuple(prompt), sampling(server, body, prompt, body.max_tokens), continues=continues
        )
        return GenerationResponse(server, [sequence], InferenceFormat(), stream=False)

    @routes.post("/chat/completions", response_model=None)
    async def chat(body: ChatRequest) -> GenerationResponse:
        return await chat_answer(server, body, LegacyChatFormat)  # the gateway sends the word "serviceName" as model

    return routes


async def _prompt(server: Server, text: str) -> list[int]:
    """Return a question as a conversation, or as it is for a model that knows no conversations."""
    if not server.tokenizer.has_chat_template:
        return await encode(server, text)
    return await encode_chat(server, [{"role": "user", "content": text}])
