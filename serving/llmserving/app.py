"""The FastAPI application of one server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import FastAPI

from llmserving import errors
from llmserving.admission import RETRY_AFTER
from llmserving.api import embeddings, health, legacy, openai, zhipu
from llmserving.errors import CLIENT_GONE, ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from llmserving.server import Server

MAX_BODY = 4 * 2**20  # bytes: parsing more than that would hold up everybody's tokens
# Bytes of all bodies that are inside, or on their way in. Beside them each thread may be at work on one more, for a
# caller who has gone: it cannot be ended.
MAX_BODIES = 256 * 2**20
SMALL_BODY = 2**16  # bytes of each that are not counted: whoever sends that little is never refused for others' bodies


def build_app(server: Server) -> FastAPI:
    """Return the application that answers for a server."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        await server.warm_up()
        yield
        server.close()

    # No pages of documentation: they would load their scripts over the network. /openapi.json is there.
    app = FastAPI(title="llmserving", lifespan=lifespan, docs_url=None, redoc_url=None)
    errors.install(app)
    app.add_middleware(Gate, server=server)
    app.include_router(health.router(server))
    app.include_router(legacy.router(server))
    app.include_router(zhipu.router(server))
    for prefix in ("", "/openai"):
        app.include_router(openai.token_router(server), prefix=prefix)
        app.include_router(openai.router(server), prefix=f"{prefix}/v1")
        app.include_router(embeddings.router(server), prefix=f"{prefix}/v1")
    return app


class Gate:
    """Refuse bodies that are too large, alone or together, and count each request by its route and status."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self._app = app
        self._server = server
        self._inside = 0  # bytes of bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status: int | None = None

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        size = 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += self._take(size, len(message.get("body", b"")))
            return message

        try:
            await self._app(scope, limited, counted)
        except Exception:
            status = status or HTTPStatus.INTERNAL_SERVER_ERROR.value  # so it is answered, further out than here
            raise
        finally:
            self._inside -= _counted(size)
            self._server.metrics.count("serving_requests", route=_route(scope), status=str(status or CLIENT_GONE))

    def _take(self, size: int, more: int) -> int:
        """Count more of a body of some size so far; raise ApiError 413 or 503 where there is no room for it."""
        if size + more > MAX_BODY:
            raise ApiError(413, f"the body is larger than {MAX_BODY} bytes")
        grown = _counted(size + more) - _counted(size)
        if grown and self._inside + grown > MAX_BODIES:
            text = f"the bodies of all requests are larger than {MAX_BODIES} bytes; smaller ones are taken"
            raise ApiError(503, text, retry_after=RETRY_AFTER)
        self._inside += grown
        return more


def _counted(size: int) -> int:
    """Return how much of a body counts."""
    return max(0, size - SMALL_BODY)


def _route(scope: Scope) -> str:
    """Return the path as it is declared, so that what clients make up makes no series of its own."""
    declared: str = getattr(scope.get("route"), "path", "none")
    path: str = scope["path"]  # with Ray Serve's root_path before it, where there is one
    return declared if declared == "none" or "{" in declared else path.removeprefix(scope.get("root_path", ""))
