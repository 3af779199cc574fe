"""The engine with nothing around it: no HTTP, no text. Reads `CLIENTS EACH TOKENS` lines, answers with JSON lines."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from llmserving import loading
from llmserving.engines.base import Sampling
from llmserving.engines.local import load_local
from llmserving.settings import from_mapping
from llmserving.tokenizer import ModelTokenizer

from bench.serving.load import Sample, question, summary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from llmserving.engines.base import Engine
    from llmserving.tokenizer import Tokenizer


def main() -> None:
    """Load the model that BASE_MODEL_DIR names, then measure as told."""
    settings = from_mapping({})
    folders = loading.find_folders(settings)
    stop_ids = loading.read_advice(folders).stop_ids
    tokenizer = ModelTokenizer(*folders.tokenizers, stop_ids=stop_ids, trust=False)
    engine, _ = load_local(settings)
    print("ready", flush=True)
    for line in sys.stdin:
        clients, each, tokens = map(int, line.split())
        print(json.dumps(asyncio.run(_measure(partial(_ask, engine, tokenizer, tokens), clients, each))), flush=True)
    os._exit(0)  # the engine's thread has nothing to save


async def _measure(ask: Callable[[int], Awaitable[Sample]], clients: int, each: int) -> dict[str, float]:
    async def client(number: int) -> list[Sample]:
        return [await ask(number + clients * turn) for turn in range(each)]

    start = time.perf_counter()
    answers = await asyncio.gather(*(client(number) for number in range(clients)))
    return summary([one for answer in answers for one in answer], time.perf_counter() - start).as_dict()


async def _ask(engine: Engine, tokenizer: Tokenizer, tokens: int, number: int) -> Sample:
    start = time.perf_counter()
    first, made = 0.0, 0
    conversation = [{"role": "user", "content": question(number)}]
    prompt = tokenizer.encode(tokenizer.render(conversation, {"add_generation_prompt": True}), special=False)
    sampling = Sampling(max_tokens=tokens, temperature=0.0, stop_ids=tokenizer.stop_ids)
    async for _ in engine.submit(prompt, sampling):
        first = first or time.perf_counter() - start
        made += 1
    return Sample(first, made)


if __name__ == "__main__":
    main()
