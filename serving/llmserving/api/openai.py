"""OpenAI's routes, at /v1 and at /openai/v1: chat and text completions, models, tokens."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from llmserving.answer import Answer
from llmserving.api.body import JsonRoute
from llmserving.api.openai_format import ChatFormat, CompletionFormat
from llmserving.api.requests import ChatRequest, CompletionRequest, DetokenizeRequest, TokenizeRequest
from llmserving.errors import ApiError, bad_request
from llmserving.jobs import check_model, encode, encode_chat, openai_jobs
from llmserving.text import Pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmserving.api.requests import TemplateFields
    from llmserving.generation import Job
    from llmserving.server import Server

log = logging.getLogger(__name__)


def router(server: Server) -> APIRouter:
    """Return the routes that have a version: /chat/completions, /completions, /models."""
    routes = APIRouter(route_class=JsonRoute)

    @routes.post("/chat/completions", response_model=None)
    async def chat(body: ChatRequest) -> Answer:
        check_model(server, body.model)
        jobs = await chat_jobs(server, body)
        form = ChatFormat(
            server.settings.served_name,
            server.tokenizer,
            body.stream_options,
            logprobs=body.top_logprobs_wanted is not None,
            choices=len(jobs),
        )
        return Answer(server, jobs, form, stream=bool(body.stream))

    @routes.post("/completions", response_model=None)
    async def complete(body: CompletionRequest) -> Answer:
        check_model(server, body.model)
        _check_completion(body)
        prompts = [await encode(server, p) if isinstance(p, str) else p for p in body.prompts]
        jobs = openai_jobs(server, body, prompts, body.max_tokens or 16, continues=True)
        echo = [server.tokenizer.decode(job.prompt) for job in jobs] if body.echo else []
        form = CompletionFormat(
            server.settings.served_name,
            server.tokenizer,
            body.stream_options,
            logprobs=body.logprobs is not None,
            echo=echo,
        )
        return Answer(server, jobs, form, stream=bool(body.stream))

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
        strings = await asyncio.to_thread(_strings, server, ids) if body.return_token_strs else None
        length = server.engine.context_length
        return {"count": len(ids), "max_model_len": length, "tokens": ids, "token_strs": strings}

    @routes.post("/detokenize")
    async def detokenize(body: DetokenizeRequest) -> dict[str, str]:
        check_model(server, body.model)
        if len(body.tokens) > server.engine.context_length:
            raise bad_request(f"{len(body.tokens)} tokens: at most {server.engine.context_length}", "tokens")
        if any(token >= server.tokenizer.vocabulary_size for token in body.tokens):
            raise bad_request(f"a token is not among the model's {server.tokenizer.vocabulary_size}", "tokens")
        return {"prompt": server.tokenizer.decode(body.tokens, special=True)}

    return routes


async def chat_jobs(server: Server, body: ChatRequest) -> list[Job]:
    """Return the jobs of a conversation; raise ApiError for what cannot be done."""
    if body.top_logprobs and not body.logprobs:
        raise bad_request("top_logprobs: only with logprobs set to true", "top_logprobs")
    prompt = await encode_chat(server, [message.plain() for message in body.messages], _options(server, body))
    length = body.max_completion_tokens or body.max_tokens
    return openai_jobs(server, body, [prompt], length, continues=bool(body.continue_final_message))


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
    if not name:
        raise ApiError(404, "no model")
    return {
        "id": name,
        "object": "model",
        "created": server.started,
        "owned_by": "llmserving",
        "root": str(server.settings.model_dir or name),
        "parent": None,
        "max_model_len": server.engine.context_length,
    }
