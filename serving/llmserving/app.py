"""The FastAPI application of one server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, HTTPException

from llmserving import errors
from llmserving.api import embeddings, health, legacy, openai, zhipu

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from llmserving.server import Server

MAX_BODY = 4 * 2**20  # bytes: parsing more than that would hold up everybody's tokens


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
    """Refuse bodies that are too large, and count each request by its route and status."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self._app = app
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 499  # the client went away before there was one

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, _limited(receive), counted)
        finally:
            self._server.metrics.count("serving_requests", route=_route(scope), status=str(status))


def _route(scope: Scope) -> str:
    """Return the path as it is declared, so that what clients make up makes no series of its own."""
    declared: str = getattr(scope.get("route"), "path", "none")
    path: str = scope["path"]  # with Ray Serve's root_path before it, where there is one
    return declared if declared == "none" or "{" in declared else path.removeprefix(scope.get("root_path", ""))


def _limited(receive: Receive) -> Receive:
    size = 0

    async def limited() -> Any:  # noqa: ANN401 - an ASGI message
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MAX_BODY:
            # FastAPI lets through its own exception only while it reads a body
            raise HTTPException(413, f"the body is larger than {MAX_BODY} bytes")
        return message

    return limited
