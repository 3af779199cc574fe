"""The application as a Ray Serve deployment named LlamaDeployment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ray import serve

from llmserving.app import build_app
from llmserving.server import load
from llmserving.settings import from_mapping

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI
    from ray.serve import Application


@serve.deployment(name="LlamaDeployment", max_ongoing_requests=512)
@serve.ingress()
class LlamaDeployment:
    """Load the model in the replica, answer for it, and say when it died."""

    async def __init__(self, values: Mapping[str, Any]) -> None:
        self._server = await asyncio.to_thread(load, from_mapping(values))

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_app(self._server)

    def check_health(self) -> None:
        """Raise if the engine is dead, so that Ray starts another replica."""
        self._server.engine.check_health()

    def __del__(self) -> None:
        """Stop the engine's thread when the replica goes."""
        if hasattr(self, "_server"):
            self._server.engine.close()


def build(values: Mapping[str, Any]) -> Application:
    """Return the Serve application; `values` are settings by name, the rest comes from the environment."""
    return LlamaDeployment.bind(dict(values))
