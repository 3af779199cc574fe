"""Two applications of FastAPI for one Ray Serve."""

from __future__ import annotations

from fastapi import FastAPI
from ray import serve


def build(name: str) -> FastAPI:
    app = FastAPI(title=name)

    @app.get("/items/")
    async def items() -> dict[str, str]:
        return {"from": name}

    return app


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
@serve.ingress(build("one"))
class One:
    """Answer at /."""


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
@serve.ingress(build("shop"))
class Shop:
    """Answer at /shop."""


one, shop = One.bind(), Shop.bind()
