"""Jobs in, pieces of text out: several sequences of one request at once, with a deadline and cancellation."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmserving.errors import ApiError
from llmserving.text import Detokenizer, StopScanner

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from llmserving.engines.base import Engine, Sampling, Token
    from llmserving.tokenizer import Tokenizer

CONTEXT = 32  # tokens of the prompt's end: among them are some with text, unless it has none

UNREAD_PIECES = 64  # of one sequence: what comes faster than it is sent waits in the engine


@dataclass(frozen=True, slots=True)
class Job:
    """One sequence to continue; `index` is its place among the choices of the answer.

    `copy` counts the sequences of one prompt: the prompt is paid for once. `continues`: the answer goes on where the
    prompt's text ends; otherwise it is a text of its own, a message.
    """

    index: int
    prompt: tuple[int, ...]
    sampling: Sampling
    stop: tuple[str, ...] = ()
    copy: int = 0
    continues: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """New text of one choice and the tokens it came from; `finish` is set on the last piece of a choice."""

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

    def add(self, piece: Piece) -> None:
        """Append a piece."""
        self.text += piece.text
        self.tokens.extend(piece.tokens)
        self.finish, self.stop_reason = piece.finish, piece.stop_reason


async def continue_text(engine: Engine, tokenizer: Tokenizer, job: Job) -> AsyncGenerator[Piece, None]:
    """Yield one sequence's text in whole characters, up to its end, a stop string or its length."""
    detokenizer = Detokenizer(tokenizer, job.prompt[-CONTEXT:] if job.continues else ())
    scanner = StopScanner(job.stop)
    pending: list[Token] = []
    ended: int | None = None
    async with aclosing(engine.submit(job.prompt, job.sampling)) as tokens:
        async for token in tokens:
            pending.append(token)
            if token.id in job.sampling.stop_ids:
                ended = token.id
                break
            text, stop = scanner.push(detokenizer.push(token.id))
            if stop is not None:
                yield Piece(job.index, text, tuple(pending), "stop", stop)
                return
            yield Piece(job.index, text, tuple(pending))
            pending.clear()
    text, stop = scanner.push(detokenizer.finish())
    finish = "length" if ended is None and stop is None else "stop"
    yield Piece(job.index, text + ("" if stop is not None else scanner.finish()), tuple(pending), finish, stop)


async def merge(
    sources: Sequence[AsyncGenerator[Piece, None]], *, idle: float, limit: float
) -> AsyncGenerator[Piece | None, None]:
    """Yield the pieces of all sources as they come, and None after each `idle` seconds of silence.

    Raise ApiError 504 `limit` seconds from now. Ending early closes the sources, which frees their slots.
    """
    queue: asyncio.Queue[Piece | BaseException | None] = asyncio.Queue(UNREAD_PIECES * len(sources))
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


async def _pump(source: AsyncGenerator[Piece, None], queue: asyncio.Queue[Piece | BaseException | None]) -> None:
    try:
        async with aclosing(source):
            async for piece in source:
                await queue.put(piece)
        await queue.put(None)
    except Exception as error:  # noqa: BLE001 - it is raised again where the pieces are read
        await queue.put(error)
