"""One loaded model with everything around it: what the routes are given."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmserving import log
from llmserving.admission import Admission
from llmserving.engines.base import Sampling
from llmserving.engines.echo import EchoEngine
from llmserving.errors import ApiError
from llmserving.metrics import Metrics
from llmserving.overtime import Workshop
from llmserving.tokenizer import ByteTokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmserving.engines.base import Embedder, Engine
    from llmserving.settings import Settings
    from llmserving.tokenizer import Tokenizer


@dataclass
class Server:
    """Hold one loaded model and count what it does."""

    settings: Settings
    tokenizer: Tokenizer
    engine: Engine
    metrics: Metrics
    admission: Admission
    embedder: Embedder | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)  # sampling as the model's authors advise
    workshop: Workshop = field(default_factory=Workshop)  # for chat templates
    started: int = field(default_factory=lambda: int(time.time()))

    async def warm_up(self) -> None:
        """Generate one token, so that the first client waits for nothing but its answer."""
        async for _ in self.engine.submit([0], Sampling(max_tokens=1, temperature=0)):
            pass

    def check_ready(self) -> None:
        """Raise ApiError 503 unless a request sent now would be answered."""
        if self.admission.draining:
            raise ApiError(503, "the server is shutting down", retry_after=1)
        try:
            self.engine.check_health()
        except Exception as error:
            raise ApiError(503, f"the engine cannot work: {error}", retry_after=10) from error

    def close(self) -> None:
        """Take no more requests and stop the engine."""
        self.admission.draining = True
        self.engine.close()


def assemble(settings: Settings, tokenizer: Tokenizer, engine: Engine, ray: Any = None, **rest: Any) -> Server:  # noqa: ANN401
    """Return a server around an engine; `ray` is the module of Ray Serve's metrics, in a replica."""
    metrics = Metrics(engine.stats, ray)
    admission = Admission(settings.max_running + settings.max_waiting)
    return Server(settings, tokenizer, engine, metrics, admission, **rest)


def load(settings: Settings, ray: Any = None) -> Server:  # noqa: ANN401
    """Load the model that the settings name, and the engine for it. Takes seconds to minutes."""
    log.set_up(settings.log_level)
    if settings.engine == "echo":
        return assemble(settings, ByteTokenizer(), EchoEngine(settings.max_length or 4096), ray)
    os.environ["HF_HUB_OFFLINE"] = "1"  # models are folders: nothing is ever asked for over the network
    from llmserving.engines.choice import load_engine  # noqa: PLC0415 - what it brings reads the variable

    loaded = load_engine(settings)
    return assemble(settings, loaded.tokenizer, loaded.engine, ray, embedder=loaded.embedder, defaults=loaded.defaults)
