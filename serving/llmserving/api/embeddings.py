"""OpenAI's /embeddings."""

from __future__ import annotations

import asyncio
import base64
import struct
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from llmserving.api.body import JsonRoute
from llmserving.api.requests import EmbeddingRequest
from llmserving.errors import ApiError, bad_request
from llmserving.jobs import check_model, check_tokens

if TYPE_CHECKING:
    from llmserving.engines.base import Embedder
    from llmserving.server import Server


def router(server: Server) -> APIRouter:
    """Return the route."""
    routes = APIRouter(route_class=JsonRoute)

    @routes.post("/embeddings")
    async def embeddings(body: EmbeddingRequest) -> dict[str, Any]:
        check_model(server, body.model)
        if server.embedder is None:
            raise ApiError(404, "no embeddings here: set SERVING_EMBEDDING_MODEL_DIR to an encoder's folder")
        prompts = await asyncio.to_thread(_prompts, server.embedder, body)
        with server.admission.enter(1):
            vectors = await server.embedder.vectors.embed(prompts)
        if body.dimensions is not None and body.dimensions != len(vectors[0]):
            raise bad_request(f"dimensions: this model's vectors have {len(vectors[0])}", "dimensions")
        tokens = sum(map(len, prompts))
        server.metrics.count("serving_prompt_tokens", tokens)
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": server.settings.served_name, "usage": usage}

    return routes


def _prompts(embedder: Embedder, body: EmbeddingRequest) -> list[list[int]]:
    given: Any = body.input
    items = [given] if isinstance(given, str) or isinstance(given[0], int) else given
    prompts = [embedder.tokenizer.encode(item) if isinstance(item, str) else item for item in items]
    most = embedder.vectors.embedding_tokens
    for prompt in prompts:
        if len(prompt) > most:
            raise bad_request(f"the input has {len(prompt)} tokens: at most {most} fit", "input")
        if not prompt:
            raise bad_request("input: a text without a token", "input")
        check_tokens(embedder.tokenizer, prompt, embedder.vectors.embedding_vocabulary, "input")
    return prompts


def _encoded(vector: list[float], encoding: str) -> list[float] | str:
    if encoding == "float":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
