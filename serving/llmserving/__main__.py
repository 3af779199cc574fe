"""Serve a model without Ray: python -m llmserving --model_dir=/mnt/models/Llama-2-7b-chat-hf."""

from __future__ import annotations

import sys

import uvicorn

from llmserving.app import build_app
from llmserving.server import load
from llmserving.settings import from_arguments


def main() -> None:
    """Read the arguments, load the model and answer; a signal ends it when the running answers are finished."""
    try:
        settings = from_arguments(sys.argv[1:])
        server = load(settings)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"llmserving: {error}")
    uvicorn.run(build_app(server), host=settings.host, port=settings.port)


if __name__ == "__main__":
    main()
