"""The page of Gradio as a Ray Serve deployment; Ray 2.60's own GradioServer answers 500 for Gradio 6."""

from __future__ import annotations

import gradio
from fastapi import FastAPI
from gradio_page import page
from ray import serve


def build() -> FastAPI:
    return gradio.mount_gradio_app(FastAPI(), page(), path="/")


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
@serve.ingress(build)
class Page:
    """Answer with the page."""


application = Page.bind()
