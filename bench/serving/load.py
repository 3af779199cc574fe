"""Clients that ask a chat model for streams, all at once, and time what comes.

Written on bare sockets, so that on two cores the clients take little of what the servers need.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TIMEOUT = 300.0  # seconds for one request
WORDS = ("river", "mountain", "paper", "garden", "window", "silver", "engine", "letter", "winter", "candle")


@dataclass(frozen=True)
class Sample:
    """Hold one request: seconds to its first token, and how many tokens came."""

    first: float
    tokens: int


@dataclass(frozen=True)
class Figures:
    """Hold what some clients got together; `first` is the median time to the first token in seconds."""

    tokens: int
    tokens_per_second: float
    first: float
    first_worst: float
    requests: int

    def as_dict(self) -> dict[str, float]:
        """Return the figures by name."""
        return asdict(self)


def question(number: int) -> str:
    """Return a question of about thirty tokens that differs from the others from its first word on."""
    return " ".join(WORDS[(number * 5 + place * (1 + number % 7)) % len(WORDS)] for place in range(16))


def summary(samples: list[Sample], seconds: float) -> Figures:
    """Return the figures of requests that together took some seconds."""
    firsts = sorted(sample.first for sample in samples)
    total = sum(sample.tokens for sample in samples)
    return Figures(total, total / seconds, statistics.median(firsts), firsts[-1], len(samples))


async def measure(url: str, model: str, clients: int, each: int, tokens: int) -> Figures:
    """Let `clients` ask `each` questions, one after the other, for answers of `tokens` tokens."""

    async def client(number: int) -> list[Sample]:
        return [await ask(url, _body(model, number + clients * turn, tokens)) for turn in range(each)]

    start = time.perf_counter()
    answers = await asyncio.gather(*(client(number) for number in range(clients)))
    return summary([one for answer in answers for one in answer], time.perf_counter() - start)


def _body(model: str, number: int, tokens: int) -> bytes:
    return json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": question(number)}],
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()


async def ask(url: str, body: bytes) -> Sample:
    """Send one request and read its stream; raise RuntimeError for any other answer than a whole one."""
    start = time.perf_counter()
    first, tokens = 0.0, 0
    async with asyncio.timeout(TIMEOUT):
        async for event in events(url, body):
            if not first and _has_text(event):
                first = time.perf_counter() - start
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    if not tokens:
        raise RuntimeError(f"{url}: the stream ended without usage")
    return Sample(first or time.perf_counter() - start, tokens)


def _has_text(event: dict[str, Any]) -> bool:
    return any((choice.get("delta") or {}).get("content") for choice in event.get("choices", ()))


async def events(url: str, body: bytes) -> AsyncIterator[dict[str, Any]]:
    """Yield the JSON of each event of the stream that a POST is answered with."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        status = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in status.split(b"\r\n")[0]:
            raise RuntimeError(f"{url}: {status.decode()}{(await reader.read(2000)).decode(errors='replace')}")
        text = b""
        async for chunk in _chunks(reader):
            *whole, text = (text + chunk).split(b"\n\n")
            for event in whole:
                if event.startswith(b"data: {"):
                    yield json.loads(event[6:])
    finally:
        writer.close()


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield the pieces of a chunked body."""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(size + 2))[:-2]
