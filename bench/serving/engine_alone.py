"""The engine with nothing around it: no HTTP, no text. Reads `CLIENTS EACH TOKENS` lines, answers with JSON lines."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from llmserving.engines.base import Sampling
from llmserving.server import Server, load
from llmserving.settings import from_mapping

from bench.serving.load import Sample, question, summary


def main() -> None:
    """Load the model that BASE_MODEL_DIR names, then measure as told."""
    server = load(from_mapping({}))
    print("ready", flush=True)
    for line in sys.stdin:
        clients, each, tokens = map(int, line.split())
        print(json.dumps(asyncio.run(_measure(server, clients, each, tokens))), flush=True)
    os._exit(0)  # the engine's thread has nothing to save


async def _measure(server: Server, clients: int, each: int, tokens: int) -> dict[str, float]:
    async def client(number: int) -> list[Sample]:
        return [await _ask(server, number + clients * turn, tokens) for turn in range(each)]

    start = time.perf_counter()
    answers = await asyncio.gather(*(client(number) for number in range(clients)))
    return summary([one for answer in answers for one in answer], time.perf_counter() - start).as_dict()


async def _ask(server: Server, number: int, tokens: int) -> Sample:
    start = time.perf_counter()
    first, made = 0.0, 0
    prompt = server.tokenizer.chat([{"role": "user", "content": question(number)}], {"add_generation_prompt": True})
    sampling = Sampling(max_tokens=tokens, temperature=0.0, stop_ids=server.tokenizer.stop_ids)
    async for _ in server.engine.submit(prompt, sampling):
        first = first or time.perf_counter() - start
        made += 1
    return Sample(first, made)


if __name__ == "__main__":
    main()
