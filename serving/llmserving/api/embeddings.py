"""OpenAI's /embeddings."""

from __future__ import annotations

import asyncio
import base64
import struct
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.responses import Response

from llmserving.api import sse
from llmserving.api.body import JsonRoute
from llmserving.api.callers import beside, until_gone
from llmserving.api.requests import EmbeddingRequest
from llmserving.api.sequences import check_model, check_tokens
from llmserving.errors import ApiError, bad_request
from llmserving.threads import in_thread

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from llmserving.engines.base import Embedder, Vectors
    from llmserving.server import Server


class Embeddings(Response):
    """The vectors of prompts, made when it is sent; given up when the client is gone, or their time is up."""

    def __init__(self, server: Server, vectors: Vectors, prompts: list[list[int]], body: EmbeddingRequest) -> None:
        super().__init__(media_type="application/json")
        self._server = server
        self._vectors = vectors
        self._prompts = prompts
        self._request = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; raise ApiError if nothing can be sent."""
        await until_gone(receive, self._answer(scope, receive, send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._server.admission.enter(1):
            vectors = await self._embedded()
        tokens = sum(map(len, self._prompts))
        self._server.metrics.count("serving_prompt_tokens", tokens)
        written = await in_thread(partial(self._written, vectors, tokens))
        await Response(written, media_type=self.media_type)(scope, receive, send)

    async def _embedded(self) -> list[list[float]]:
        limit = self._server.settings.request_timeout
        try:
            async with asyncio.timeout(limit):
                return await self._vectors.embed(self._prompts)
        except TimeoutError:
            raise ApiError(504, f"the vectors took longer than {limit:g} seconds") from None

    def _written(self, vectors: list[list[float]], tokens: int) -> bytes:
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, self._request.encoding_format)}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        answer = {"object": "list", "data": data, "model": self._server.settings.served_name, "usage": usage}
        return sse.to_json(answer).encode()


def router(server: Server) -> APIRouter:
    """Return the route."""
    routes = APIRouter(route_class=JsonRoute)

    @routes.post("/embeddings", response_model=None)
    async def embeddings(body: EmbeddingRequest) -> Embeddings:
        check_model(server, body.model)
        if server.embedder is None:
            raise ApiError(404, "no embeddings here: set SERVING_EMBEDDING_MODEL_DIR to an encoder's folder")
        if body.dimensions not in {None, width := server.embedder.vectors.embedding_width}:
            raise bad_request(f"dimensions: this model's vectors have {width}", "dimensions")
        prompts = await beside(partial(_prompts, server.embedder, body))
        return Embeddings(server, server.embedder.vectors, prompts, body)

    return routes


def _prompts(embedder: Embedder, body: EmbeddingRequest) -> list[list[int]]:
    given: Any = body.input
    items = [given] if isinstance(given, str) or isinstance(given[0], int) else given
    prompts = [embedder.tokenizer.encode(embedder.prompt + item) if isinstance(item, str) else item for item in items]
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
