"""The response of every route that generates: sequences run inside their slots, deltas leave in the route's format."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from starlette.responses import Response

from llmserving.api import sse
from llmserving.api.callers import until_gone
from llmserving.errors import ApiError, of_exception
from llmserving.generation import Delta, Result, continue_text, merge
from llmserving.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Sequence

    from starlette.types import Message, Receive, Scope, Send

    from llmserving.generation import SequenceRequest
    from llmserving.server import Server

log = logging.getLogger(__name__)

LAST_WORDS = 2.0  # seconds beyond `request_timeout` in which a stream may still say that it ends
SLOW_READER_SECONDS = 60.0  # for one delta, as long as proxies wait; its place is somebody else's then


class SlowReaderError(Exception):
    """The client does not read what it asked for."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer cost: tokens, and seconds since the request came in."""

    prompt: int
    completion: int
    seconds: float

    @property
    def total(self) -> int:
        """Return prompt and completion together."""
        return self.prompt + self.completion

    @property
    def rate(self) -> float:
        """Return completion tokens a second."""
        return self.completion / self.seconds if self.seconds > 0 else 0.0


class Format(Protocol):
    """How one route writes an answer: whole, or as events."""

    def whole(self, results: Sequence[Result], usage: Usage) -> dict[str, Any]:
        """Return the JSON of a finished answer."""
        ...

    def start(self) -> bytes:
        """Return the events before the first delta."""
        ...

    def delta(self, delta: Delta, usage: Usage) -> bytes:
        """Return the event of a delta, empty for none."""
        ...

    def end(self, usage: Usage) -> bytes:
        """Return the events after the last delta."""
        ...

    def failure(self, error: ApiError) -> bytes:
        """Return the events that end a stream which cannot go on."""
        ...


class GenerationResponse(Response):
    """Continue the sequences when sent; stop at once when the client is gone."""

    def __init__(self, server: Server, sequences: Sequence[SequenceRequest], form: Format, *, stream: bool) -> None:
        super().__init__(headers=sse.HEADERS if stream else {"Content-Type": "application/json"})
        self._server = server
        self._sequences = sequences
        self._form = form
        self._stream = stream
        self._started = time.monotonic()
        self._prompt_tokens = sum(len(sequence.prompt) for sequence in sequences if sequence.copy == 0)
        self._tokens = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's three
        """Answer, holding the sequences' slots; raise ApiError if nothing has been sent yet."""
        with self._server.admission.enter(len(self._sequences)):
            self._server.metrics.count("serving_prompt_tokens", self._prompt_tokens)
            work = self._send_events(send) if self._stream else self._send_whole(send)
            await until_gone(receive, self._in_time(work))
        self._server.metrics.observe("serving_request_seconds", time.monotonic() - self._started)

    async def _in_time(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work, or give it up where its reader does not take what is sent: the places are for others."""
        limit = self._server.settings.request_timeout
        try:
            async with asyncio.timeout(limit + LAST_WORDS):
                await work
        except SlowReaderError:
            log.warning("an answer was cut off: its reader took nothing for %g seconds", SLOW_READER_SECONDS)
        except TimeoutError:
            log.warning("an answer was cut off after %g seconds: its reader did not take what was sent", limit)

    async def _send_whole(self, send: Send) -> None:
        results = [Result() for _ in self._sequences]
        try:
            async with aclosing(self._deltas()) as deltas:
                async for delta in deltas:
                    if delta is not None:
                        results[delta.index].add(delta)
        except Exception as error:
            raise of_exception(error) from error
        self.body = await in_thread(partial(self._written, results))
        self.headers["content-length"] = str(len(self.body))
        await self._send(send, {"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await self._send(send, {"type": "http.response.body", "body": self.body})

    def _written(self, results: Sequence[Result]) -> bytes:
        return sse.to_json(self._form.whole(results, self._usage())).encode()

    async def _send_events(self, send: Send) -> None:
        del self.headers["content-length"]
        await self._send(send, {"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(self._events()) as events:
            async for chunk in events:
                if chunk:
                    await self._send(send, {"type": "http.response.body", "body": chunk, "more_body": True})
        await self._send(send, {"type": "http.response.body", "body": b""})

    async def _send(self, send: Send, message: Message) -> None:
        """Send, and wait for the client to read no longer than a client may be slow."""
        try:
            async with asyncio.timeout(SLOW_READER_SECONDS):
                await send(message)
        except TimeoutError:
            raise SlowReaderError from None

    async def _events(self) -> AsyncGenerator[bytes, None]:
        """Yield the stream's bytes; an error in its middle becomes an event, since the status has been sent."""
        yield self._form.start()
        try:
            async with aclosing(self._deltas()) as deltas:
                async for delta in deltas:
                    yield sse.PING if delta is None else self._form.delta(delta, self._usage())
        except Exception as error:  # noqa: BLE001 - of_exception logs it
            yield self._form.failure(of_exception(error))
        else:
            yield self._form.end(self._usage())

    async def _deltas(self) -> AsyncGenerator[Delta | None, None]:
        settings, metrics = self._server.settings, self._server.metrics
        sources = [
            continue_text(self._server.engine, self._server.tokenizer, sequence) for sequence in self._sequences
        ]
        last: dict[int, float] = {}
        deltas = merge(sources, idle=settings.ping_interval, limit=settings.request_timeout)
        async with aclosing(deltas):
            async for delta in deltas:
                if delta is not None and delta.tokens:
                    now = time.monotonic()
                    name = (
                        "serving_inter_token_seconds" if delta.index in last else "serving_time_to_first_token_seconds"
                    )
                    metrics.observe(name, now - last.get(delta.index, self._started))
                    last[delta.index] = now
                    self._tokens += len(delta.tokens)
                    metrics.count("serving_generation_tokens", len(delta.tokens))
                yield delta

    def _usage(self) -> Usage:
        return Usage(self._prompt_tokens, self._tokens, time.monotonic() - self._started)
