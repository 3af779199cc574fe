"""An engine without a model: it says again what it was told. For tests of the routes and of a deployment."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from llmserving.engines.base import EngineDeadError, Stats, Token, Vocabulary

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from llmserving.engines.base import Sampling


class EchoEngine:
    """Repeat the prompt token by token, then stop; `delay` seconds before each token."""

    check_format = None

    def __init__(self, context_length: int = 4096, stop_id: int = 256, delay: float = 0.0) -> None:
        self.context_length = context_length
        self._stop_id = stop_id
        self._delay = delay
        self._running = 0
        self._dead = False
        self.vocabulary = Vocabulary(stop_id + 1, stop_id + 1)

    async def submit(self, prompt: Sequence[int], sampling: Sampling) -> AsyncGenerator[Token, None]:
        """Yield the prompt's own tokens, then the stop token."""
        stop_id = min(sampling.stop_ids, default=self._stop_id)
        self._running += 1
        try:
            for token_id in [*prompt, stop_id][: sampling.max_tokens]:
                await asyncio.sleep(self._delay)
                self.check_health()
                yield self._token(token_id, sampling)
        finally:
            self._running -= 1

    @staticmethod
    def _token(token_id: int, sampling: Sampling) -> Token:
        if sampling.logprobs is None:
            return Token(token_id)
        alternatives = tuple((token_id + rank, -math.log(2) * (rank + 1)) for rank in range(sampling.logprobs))
        return Token(token_id, -math.log(2), alternatives)

    def check_health(self) -> None:
        """Raise EngineDeadError after `die` or `close`."""
        if self._dead:
            raise EngineDeadError("the echo engine is dead")

    def stats(self) -> Stats:
        """Count the sequences that are being repeated."""
        return Stats(running=self._running)

    def close(self) -> None:
        """Stop, and end every sequence."""
        self._dead = True
