"""One loaded model with everything around it: what the routes are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmserving.engines.echo import EchoEngine
from llmserving.tokenizer import ByteTokenizer

if TYPE_CHECKING:
    from llmserving.engines.base import Engine
    from llmserving.settings import Settings
    from llmserving.tokenizer import Tokenizer


@dataclass
class Server:
    """Hold one loaded model; `ready` once it has answered its first request."""

    settings: Settings
    tokenizer: Tokenizer
    engine: Engine
    ready: bool = False


def load(settings: Settings) -> Server:
    """Load the model that the settings name, and the engine for it. Takes seconds to minutes."""
    if settings.engine == "echo":
        return Server(settings, ByteTokenizer(), EchoEngine(settings.max_length or 4096), ready=True)
    raise NotImplementedError("only the echo engine so far")
