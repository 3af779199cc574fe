"""Sequences in, deltas of text out: several sequences of one request at once, with a deadline and cancellation."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmserving.errors import ApiError
from llmserving.stops import NO_STOPS, Stops, StopScanner
from llmserving.text import Detokenizer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from llmserving.engines.base import Engine, Sampling, Token
    from llmserving.tokenizer import Tokenizer

CONTEXT = 32  # tokens of the prompt's end: among them are some with text, unless it has none

UNREAD_DELTAS = 64  # of one sequence: what comes faster than it is sent waits in the engine


@dataclass(frozen=True, slots=True)
class SequenceRequest:
    """One sequence to continue; `index` is its place among the choices of the answer.

    `copy` counts the sequences of one prompt: the prompt is paid for once. `continues`: the answer goes on where the
    prompt's text ends; otherwise it is a text of its own, a message.
    """

    index: int
    prompt: tuple[int, ...]
    sampling: Sampling
    stops: Stops = NO_STOPS
    copy: int = 0
    continues: bool = False


@dataclass(frozen=True, slots=True)
class Delta:
    """New text of one choice and the tokens it came from; `finish` is set on the last delta of a choice."""

    index: int
    text: str
    tokens: tuple[Token, ...]
    finish: str | None = None
    stop_reason: str | int | None = None


@dataclass
class Result:
    """One choice as a whole."""

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    finish: str | None = None
    stop_reason: str | int | None = None

    def add(self, delta: Delta) -> None:
        """Append a delta."""
        self.text += delta.text
        self.tokens.extend(delta.tokens)
        self.finish, self.stop_reason = delta.finish, delta.stop_reason


async def continue_text(
    engine: Engine, tokenizer: Tokenizer, sequence: SequenceRequest
) -> AsyncGenerator[Delta, None]:
    """Yield one sequence's text in whole characters, up to its end, a stop string or its length."""
    detokenizer = Detokenizer(tokenizer, sequence.prompt[-CONTEXT:] if sequence.continues else ())
    scanner = StopScanner(sequence.stops)
    pending: list[Token] = []
    ended: int | None = None
    async with aclosing(engine.submit(sequence.prompt, sequence.sampling)) as tokens:
        async for token in tokens:
            pending.append(token)
            if token.id in sequence.sampling.stop_ids:
                ended = token.id
                break
            text, stop = scanner.push(detokenizer.push(token.id) + scanner.mark(token.id))
            if stop is not None:
                yield Delta(sequence.index, text, tuple(pending), "stop", stop)
                return
            yield Delta(sequence.index, text, tuple(pending))
            pending.clear()
    text, stop = scanner.push(detokenizer.finish() + ("" if ended is None else scanner.mark(ended)))
    finish = "length" if ended is None and stop is None else "stop"
    yield Delta(sequence.index, text + ("" if stop is not None else scanner.finish()), tuple(pending), finish, stop)


async def merge(
    sources: Sequence[AsyncGenerator[Delta, None]], *, idle: float, limit: float
) -> AsyncGenerator[Delta | None, None]:
    """Yield the deltas of all sources as they come, and None after each `idle` seconds of silence.

    Raise ApiError 504 `limit` seconds from now. Ending early closes the sources, which frees their slots.
    """
    queue: asyncio.Queue[Delta | BaseException | None] = asyncio.Queue(UNREAD_DELTAS * len(sources))
    pumps = [asyncio.create_task(_pump(source, queue)) for source in sources]
    deadline = time.monotonic() + limit
    running = len(pumps)
    try:
        while running:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ApiError(504, f"the answer took longer than {limit:g} seconds")
            try:
                async with asyncio.timeout(min(idle, left)):
                    item = await queue.get()
            except TimeoutError:
                yield None
                continue
            if isinstance(item, BaseException):
                raise item
            if item is None:
                running -= 1
            else:
                yield item
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(source: AsyncGenerator[Delta, None], queue: asyncio.Queue[Delta | BaseException | None]) -> None:
    try:
        async with aclosing(source):
            async for delta in source:
                await queue.put(delta)
        await queue.put(None)
    except Exception as error:  # noqa: BLE001 - it is raised again where the deltas are read
        await queue.put(error)
