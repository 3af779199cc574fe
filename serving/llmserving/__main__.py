"""Serve a model without Ray: python -m llmserving --model_dir=/mnt/models/Llama-2-7b-chat-hf."""

from __future__ import annotations

import sys

from llmserving.app import build_app
from llmserving.ending import Watched
from llmserving.server import load
from llmserving.settings import from_arguments


def main() -> None:
    """Read the arguments, load the model and answer.

    A signal ends it when the running answers are finished, with 0; an engine that cannot work any more, with 1.
    """
    try:
        settings = from_arguments(sys.argv[1:])
        server = load(settings)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"llmserving: {error}")
    sys.exit(Watched(server, build_app(server)).run())


if __name__ == "__main__":
    main()
