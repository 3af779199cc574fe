"""OpenAI's routes, at /v1 and at /openai/v1: chat and text completions, models, tokens."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from llmserving.api.answer import GenerationResponse
from llmserving.api.body import JsonRoute
from llmserving.api.openai_format import ChatFormat, CompletionFormat
from llmserving.api.requests import ChatRequest, CompletionRequest, DetokenizeRequest, TokenizeRequest
from llmserving.api.sequences import (
    at_length,
    check_model,
    check_tokens,
    decode_each,
    encode,
    encode_chat,
    encode_each,
    openai_sequences,
)
from llmserving.errors import bad_request
from llmserving.text import Pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmserving.api.requests import TemplateFields
    from llmserving.generation import SequenceRequest
    from llmserving.server import Server

log = logging.getLogger(__name__)


def router(server: Server) -> APIRouter:
    """Return the routes that have a version: /chat/completions, /completions, /models."""
    routes = APIRouter(route_class=JsonRoute)

    @routes.post("/chat/completions", response_model=None)
    async def chat(body: ChatRequest) -> GenerationResponse:
        check_model(server, body.model)
        return await chat_answer(server, body, ChatFormat)

    @routes.post("/completions", response_model=None)
    async def complete(body: CompletionRequest) -> GenerationResponse:
        check_model(server, body.model)
        _check_completion(body)
        prompts = await encode_each(server, body.prompts)
        sequences = await openai_sequences(server, body, prompts, body.max_tokens or 16, continues=True)
        texts = await decode_each(server, body.prompts) if body.echo else []
        form = CompletionFormat(
            server.settings.served_name,
            server.tokenizer,
            body.stream_options,
            logprobs=body.logprobs is not None,
            echo=[text for text in texts for _ in range(body.n or 1)],
        )
        return GenerationResponse(server, sequences, form, stream=bool(body.stream))

    @routes.get("/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_card(server)]}

    @routes.get("/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        check_model(server, name)
        return _card(server)

    return routes


def token_router(server: Server) -> APIRouter:
    """Return /tokenize and /detokenize, which have no version."""
    routes = APIRouter(route_class=JsonRoute)

    @routes.post("/tokenize")
    async def tokenize(body: TokenizeRequest) -> dict[str, Any]:
        check_model(server, body.model)
        if (body.prompt is None) == (body.messages is None):
            raise bad_request("either prompt or messages, one of them", "prompt")
        if body.messages is not None:
            ids = await encode_chat(server, [message.plain() for message in body.messages], _options(server, body))
        else:
            ids = await encode(server, body.prompt or "", special=body.add_special_tokens)
        write = partial(_strings, server, ids)
        strings = await at_length(len(ids), write) if body.return_token_strs else None
        length = server.engine.context_length
        return {"count": len(ids), "max_model_len": length, "tokens": ids, "token_strs": strings}

    @routes.post("/detokenize")
    async def detokenize(body: DetokenizeRequest) -> dict[str, str]:
        check_model(server, body.model)
        if len(body.tokens) > server.engine.context_length:
            raise bad_request(f"{len(body.tokens)} tokens: at most {server.engine.context_length}", "tokens")
        check_tokens(server.tokenizer, body.tokens, server.tokenizer.vocabulary_size, "tokens")
        (text,) = await decode_each(server, [body.tokens])
        return {"prompt": text}

    return routes


async def chat_answer(server: Server, body: ChatRequest, form: type[ChatFormat]) -> GenerationResponse:
    """Return the answer to a conversation, whatever its model's name; raise ApiError for what cannot be done."""
    sequences = await _chat_sequences(server, body)
    written = form(
        server.settings.served_name,
        server.tokenizer,
        body.stream_options,
        logprobs=body.top_logprobs_wanted is not None,
        choices=len(sequences),
    )
    return GenerationResponse(server, sequences, written, stream=bool(body.stream))


async def _chat_sequences(server: Server, body: ChatRequest) -> list[SequenceRequest]:
    if body.top_logprobs and not body.logprobs:
        raise bad_request("top_logprobs: only with logprobs set to true", "top_logprobs")
    prompt = await encode_chat(server, [message.plain() for message in body.messages], _options(server, body))
    length = body.max_completion_tokens or body.max_tokens
    return await openai_sequences(server, body, [prompt], length, continues=bool(body.continue_final_message))


def _options(server: Server, body: TemplateFields) -> dict[str, Any]:
    """Return what the chat template is told: of the caller's options those that it reads."""
    given = body.template_options
    if unread := sorted(given.keys() - server.tokenizer.template_options):
        log.debug("ignored, for the chat template does not read it: %s", ", ".join(unread))
    return {
        **{name: value for name, value in given.items() if name not in unread},
        "add_generation_prompt": body.add_generation_prompt,
        "continue_final_message": body.continue_final_message,
    }


def _strings(server: Server, ids: Sequence[int]) -> list[str]:
    pieces = Pieces(server.tokenizer)
    return [pieces.piece(i)[0] for i in ids]


def _check_completion(body: CompletionRequest) -> None:
    if body.echo and body.logprobs is not None:
        raise bad_request("logprobs: not of the prompt, so not together with echo", "logprobs")
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise bad_request("best_of: this server makes n answers and returns all of them", "best_of")


def _card(server: Server) -> dict[str, Any]:
    name = server.settings.served_name
    return {
        "id": name,
        "object": "model",
        "created": server.started,
        "owned_by": "llmserving",
        "root": str(server.settings.model_dir or name),
        "parent": None,
        "max_model_len": server.engine.context_length,
    }
