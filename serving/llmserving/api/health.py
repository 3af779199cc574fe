"""GET /health, /ready and /metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

if TYPE_CHECKING:
    from llmserving.server import Server


def router(server: Server) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()

    @routes.get("/health")
    async def health() -> dict[str, str]:
        """Say that the process answers, whatever the engine does."""
        return {"status": "alive"}

    @routes.get("/ready")
    async def ready() -> dict[str, str]:
        """Say that a request would be answered: the model is loaded and warmed up, the engine works."""
        server.check_ready()
        return {"status": "ready"}

    @routes.get("/metrics", response_model=None)
    async def metrics() -> Response:
        """Tell Prometheus."""
        return Response(server.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    return routes
