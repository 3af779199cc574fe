"""Mixed load on the model server behind nginx and Ray Serve: is a replica lost, does memory grow, are places lost?

    python -m bench.serving.soak [--minutes 30] [--clients 8] [--model FOLDER]

Good requests, streams cut at random, clients that stop waiting, prompts that are too long, requests that are wrong.
Exits with 1 when a replica was lost, a place stayed taken, or an answer had a status that it must not have.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import httpx

from bench.serving import ROOT, model, ways
from bench.serving.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CHAT, QUESTION = "/v1/chat/completions", "/embeddings/QuestionAnswer"
DRAIN = 60.0  # seconds for the last answers to end
MESSAGES = [{"role": "user", "content": "我的孩子数学不太行 怎么办怎么办"}]
LONG = [{"role": "user", "content": "word " * 20000}]
BUSY = {429, 503}  # what a full server may say at any time


def main() -> int:
    """Run the load, print what was seen, and return the exit code."""
    arguments = _arguments()
    ways.end_cleanly_on_sigterm()
    folder = (arguments.model or model.build(ROOT / "build" / "bench-model")).resolve()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        served = stack.enter_context(ways.ray_serve(folder, scratch, original=False))
        url = served[0].address
        watch = Watch("ray::ServeReplica:serving:")
        counts = asyncio.run(_load(url, arguments, watch))
        report = {**watch.report(), **_left(url), "requests": dict(sorted(counts.items()))}
    print(json.dumps(report, indent=2))
    failed = report["replicas lost"] or report["places taken"] or any(name.endswith("!") for name in counts)
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.serving.soak", description="Mixed load for a long time.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--model", type=Path, help="a model's folder (default: one made for this)")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


async def _load(url: str, arguments: argparse.Namespace, watch: Watch) -> Counter[str]:
    """Let the clients ask until the time is up; return how often each kind of request had each outcome."""
    counts: Counter[str] = Counter()
    end = time.monotonic() + 60 * arguments.minutes
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=httpx.Limits(max_connections=None)) as client:

        async def one(number: int) -> None:
            chance = random.Random(arguments.seed + number)
            while time.monotonic() < end:
                kind = chance.choice(KINDS)
                counts[await _outcome(kind, client, chance)] += 1

        watching = asyncio.create_task(watch.run())
        await asyncio.gather(*(one(number) for number in range(arguments.clients)))
        watching.cancel()
    return counts


async def _outcome(kind: Kind, client: httpx.AsyncClient, chance: random.Random) -> str:
    """Return `KIND STATUS`, with an exclamation mark where the status is not one that the kind may have."""
    name = kind.ask.__name__
    try:
        status = await kind.ask(client, chance)
    except httpx.HTTPError as error:
        return f"{name} {type(error).__name__}!"
    return f"{name} {status}" + ("" if status in {kind.expected, *BUSY} else "!")


async def whole_answer(client: httpx.AsyncClient, chance: random.Random) -> int:
    body = {"messages": MESSAGES, "max_tokens": chance.randint(1, 40), "seed": chance.randint(0, 9)}
    return (await client.post(CHAT, json=body)).status_code


async def whole_stream(client: httpx.AsyncClient, chance: random.Random) -> int:
    body = {"messages": MESSAGES, "max_tokens": chance.randint(1, 40), "stream": True}
    async with client.stream("POST", CHAT, json=body) as answer:
        lines = [line async for line in answer.aiter_lines() if line]
    whole = answer.status_code != 200 or lines[-1] == "data: [DONE]"
    return answer.status_code if whole else 0


async def question_answer(client: httpx.AsyncClient, chance: random.Random) -> int:
    body = {"prompt": MESSAGES, "max_tokens": 20, "incremental": chance.random() < 0.5}
    answer = await client.post(QUESTION, params={"stream": "true"}, json=body)
    return answer.status_code if answer.status_code != 200 or "event:finish" in answer.text else 0


async def stream_left_early(client: httpx.AsyncClient, chance: random.Random) -> int:
    body = {"messages": MESSAGES, "max_tokens": 400, "stream": True}
    async with client.stream("POST", CHAT, json=body) as answer:
        wanted = chance.randint(1, 20)
        async for _ in answer.aiter_lines():
            wanted -= 1
            if not wanted:
                break
    return answer.status_code


async def answer_not_waited_for(client: httpx.AsyncClient, chance: random.Random) -> int:
    body = {"messages": MESSAGES, "max_tokens": 400, "n": 2}
    try:
        answer = await client.post(CHAT, json=body, timeout=chance.uniform(0.01, 1.0))
    except httpx.TimeoutException:
        return 200
    return answer.status_code


async def prompt_too_long(client: httpx.AsyncClient, _: random.Random) -> int:
    return (await client.post(CHAT, json={"messages": LONG})).status_code


async def wrong_request(client: httpx.AsyncClient, chance: random.Random) -> int:
    wrong: tuple[dict[str, object], ...] = (
        {"temperature": -1},
        {"max_tokens": 10**9},
        {"n": 0},
        {"messages": []},
    )
    return (await client.post(CHAT, json={"messages": MESSAGES, **chance.choice(wrong)})).status_code


async def not_json(client: httpx.AsyncClient, chance: random.Random) -> int:
    return (await client.post(CHAT, content=chance.randbytes(chance.randint(0, 4000)))).status_code


async def health(client: httpx.AsyncClient, _: random.Random) -> int:
    return (await client.get("/health")).status_code


class Kind(NamedTuple):
    """Hold a kind of request, and the status that it must have unless the server is full."""

    ask: Callable[[httpx.AsyncClient, random.Random], Awaitable[int]]
    expected: int


KINDS = (
    Kind(whole_answer, 200),
    Kind(whole_stream, 200),
    Kind(whole_stream, 200),
    Kind(question_answer, 200),
    Kind(stream_left_early, 200),
    Kind(stream_left_early, 200),
    Kind(answer_not_waited_for, 200),
    Kind(prompt_too_long, 400),
    Kind(wrong_request, 400),
    Kind(not_json, 400),
    Kind(health, 200),
)


def _left(url: str) -> dict[str, float]:
    """Return how many places are still taken once the last answers had time to end."""
    deadline = time.monotonic() + DRAIN
    while (taken := _taken(url)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return {"places taken": taken}


def _taken(url: str) -> float:
    lines = httpx.get(f"{url}/metrics", timeout=30).text.splitlines()
    names = ("serving_sequences_running ", "serving_sequences_waiting ")
    return sum(float(line.split()[1]) for line in lines if line.startswith(names))


if __name__ == "__main__":
    sys.exit(main())
