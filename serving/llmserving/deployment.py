"""The application as a Ray Serve deployment named LlamaDeployment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import ray
import ray.serve.metrics
from ray import serve

from llmserving.app import build_app
from llmserving.server import load
from llmserving.settings import from_mapping

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI
    from ray.serve import Application

    from llmserving.server import Server


GAUGE_SECONDS = 5.0

# Ray's limit counts health checks and refusals too, and answers beyond it in plain text: ours (max_running and
# max_waiting) is lower, and answers JSON.
MOST_ONGOING = 1024
MOST_QUEUED = 4096


@serve.deployment(
    name="LlamaDeployment",
    max_ongoing_requests=MOST_ONGOING,
    max_queued_requests=MOST_QUEUED,
    graceful_shutdown_timeout_s=600,  # running answers are finished; the pod's own period has to be longer
    health_check_timeout_s=60,
)
@serve.ingress()
class LlamaDeployment:
    """Load the model in the replica, answer for it, and say when it died."""

    async def __init__(self, values: Mapping[str, Any]) -> None:  # type: ignore[misc]  # Ray awaits it
        settings = from_mapping(values)
        check_gpu()
        self._server = await asyncio.to_thread(load, settings, serve.metrics)
        self._gauges = asyncio.create_task(refresh_gauges(self._server))

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_app(self._server)

    def check_health(self) -> None:
        """Raise if the engine is dead, so that Ray starts another replica."""
        self._server.engine.check_health()

    def __del__(self) -> None:
        """Stop the engine's thread when the replica goes."""
        if hasattr(self, "_server"):
            self._gauges.cancel()
            self._server.close()


async def refresh_gauges(server: Server) -> None:
    """Tell Ray's metrics what the engine is doing, as often as Ray exports them."""
    while True:
        server.metrics.refresh()
        await asyncio.sleep(GAUGE_SECONDS)


def check_gpu() -> None:
    """Raise RuntimeError where Ray gave this replica a GPU that torch cannot use: better than a slow answer."""
    if not ray.get_gpu_ids():
        return
    import torch  # noqa: PLC0415 - takes seconds, and the controller imports this module too

    if not torch.cuda.is_available():
        raise RuntimeError("Ray gave this replica a GPU, but torch sees none: is it a build of torch for CPUs?")


def build(values: Mapping[str, Any]) -> Application:
    """Return the Serve application; `values` are settings by name, the rest comes from the environment."""
    return LlamaDeployment.bind(dict(values))  # type: ignore[attr-defined]  # the decorator adds it
