"""The FastAPI application of one server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI

if TYPE_CHECKING:
    from llmserving.server import Server


def build_app(server: Server) -> FastAPI:
    """Return the application that answers for a server."""
    app = FastAPI(title="llmserving", root_path=server.settings.root_path)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    return app
