"""The same text from both engines, streamed or whole, alone or in a crowd."""

import asyncio

import httpx
import loads
import pytest
import tiny
import torch
from llmserving.engines.base import Sampling
from llmserving.engines.continuous import ContinuousEngine
from llmserving.engines.generate import GenerateEngine
from llmserving.engines.local import shared_copy
from llmserving.settings import from_mapping

PROMPTS = ["The quick", "你好，世界", "😀😃", "def main():", "x" * 40, "Emoji: 🇨🇳", " lead", "\n\n"]


def whole(running, **body):
    response = running.post("/v1/completions", {"max_tokens": 60, **body})
    return [choice["text"] for choice in response.json()["choices"]]


def streamed(running, **body):
    texts = {}
    for event in running.events("/v1/completions", {"max_tokens": 60, "stream": True, **body}):
        for choice in event["choices"]:
            texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    return [texts[index] for index in sorted(texts)]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_text_is_the_same_from_both_engines(both, prompt):
    continuous, generate = both
    assert whole(continuous, prompt=prompt, temperature=0) == whole(generate, prompt=prompt, temperature=0)


@pytest.mark.parametrize(
    "wanted",
    [
        {"temperature": 1, "seed": 11},
        {"temperature": 1.5, "seed": 11, "top_p": 0.8, "top_k": 50, "n": 2},
        {"temperature": 0, "presence_penalty": 1.5, "frequency_penalty": 0.7},
        {"temperature": 0, "repetition_penalty": 1.4, "logit_bias": {"17": 4}},
    ],
)
def test_seeds_penalties_and_biases_do_the_same_in_both_engines(both, wanted):
    continuous, generate = both
    assert whole(continuous, prompt="The quick", **wanted) == whole(generate, prompt="The quick", **wanted)


@pytest.fixture(scope="module")
def forbidding(base, tmp_path_factory):
    """Return a model whose authors forbid what it would say first, and a token that it does not have."""
    model, ids = loads.from_transformers(base), torch.tensor([[5, 6, 7]])
    model.generation_config.eos_token_id = None
    said = model.generate(ids, max_new_tokens=6, do_sample=False)[0, 3:].tolist()
    folder = loads.copy(base, tmp_path_factory.mktemp("model") / "forbidding")
    loads.edit_json(folder / "generation_config.json", suppress_tokens=[*said[:2], 258883], bad_words_ids=[[said[2]]])
    return folder, said


@pytest.mark.parametrize("engine", ["continuous", "generate"])
def test_what_the_authors_forbid_is_said_as_little_as_by_transformers(forbidding, serve, engine):
    folder, said = forbidding
    model, running = loads.from_transformers(folder), serve(model_dir=folder, engine=engine)
    tokenizer = running.server.tokenizer
    for prompt in ([5, 6, 7], *map(tokenizer.encode, PROMPTS)):
        peers = model.generate(torch.tensor([prompt]), max_new_tokens=30, do_sample=False)[0].tolist()
        text = tokenizer.decode(peers).removeprefix(tokenizer.decode(prompt))
        assert whole(running, prompt=prompt, temperature=0, max_tokens=30) == [text]
        biased = {"temperature": 0, "max_tokens": 30, "logit_bias": {str(said[0]): 100}}
        assert whole(running, prompt=prompt, **biased) == [text]


@pytest.mark.parametrize("engine", ["continuous", "generate"])
def test_advice_in_the_configuration_of_a_model_without_another_file_is_followed_as_by_transformers(
    base, tmp_path, serve, engine
):
    folder = loads.copy(base, tmp_path / "model")
    (folder / "generation_config.json").unlink()
    loads.edit_json(folder / "config.json", repetition_penalty=1.8, suppress_tokens=[319])
    running = serve(model_dir=folder, engine=engine)
    decode, prompt = running.server.tokenizer.decode, [5, 6, 7]
    peers = loads.from_transformers(folder).generate(torch.tensor([prompt]), max_new_tokens=30, do_sample=False)
    text = decode(peers[0].tolist()).removeprefix(decode(prompt))
    plain = loads.from_transformers(base).generate(torch.tensor([prompt]), max_new_tokens=30, do_sample=False)
    assert decode(plain[0].tolist()).removeprefix(decode(prompt)) != text
    assert whole(running, prompt=prompt, temperature=0, max_tokens=30) == [text]


def test_log_probabilities_are_the_same_from_both_engines(both):
    body = {"prompt": "The", "max_tokens": 8, "temperature": 0, "logprobs": 3}
    first, second = (running.post("/v1/completions", body).json()["choices"][0]["logprobs"] for running in both)
    assert first["tokens"] == second["tokens"]
    assert first["token_logprobs"] == pytest.approx(second["token_logprobs"], abs=1e-3)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_stream_has_the_text_of_the_answer(tiny_server, prompt):
    body = {"prompt": prompt, "temperature": 0, "stop": ["th", "怎"]}
    assert streamed(tiny_server, **body) == whole(tiny_server, **body)


def test_a_seeded_stream_has_the_text_of_the_seeded_answer(tiny_server):
    body = {"prompt": "a", "seed": 4, "n": 3}
    texts = whole(tiny_server, **body)
    assert streamed(tiny_server, **body) == texts
    assert len(set(texts)) == 3


def test_a_crowd_gets_what_each_would_get_alone(both):
    continuous, _ = both
    bodies = [
        {"prompt": f"{prompt} {place}", "temperature": 0, "max_tokens": 40, "stop": ["qu"]}
        for place, prompt in enumerate(PROMPTS * 4)
    ]
    alone = [whole(continuous, **body)[0] for body in bodies]

    async def crowd():
        async with httpx.AsyncClient(base_url=continuous.url, timeout=180) as client:
            posts = [client.post("/v1/completions", json=body) for body in bodies]
            return [response.json()["choices"][0]["text"] for response in await asyncio.gather(*posts)]

    assert asyncio.run(crowd()) == alone


def test_a_window_of_attention_is_kept_to_in_both_engines():
    model = tiny.make_sliding_model()
    prompts = [list(range(first, first + length)) for first, length in ((5, 3), (50, 40), (9, 90), (200, 1))]

    async def run(engine):
        async def one(prompt):
            return [token.id async for token in engine.submit(prompt, Sampling(max_tokens=50, temperature=0))]

        try:
            return await asyncio.gather(*map(one, prompts))
        finally:
            engine.close()

    generated = asyncio.run(run(GenerateEngine(shared_copy(model), tiny.CONTEXT)))
    settings = from_mapping({"engine": "echo", "kv_cache_tokens": 4096})
    assert asyncio.run(run(ContinuousEngine(model, tiny.CONTEXT, settings))) == generated


def test_the_usage_counts_each_prompt_once_and_each_answer(tiny_server):
    body = {"prompt": [[5, 6], [5, 6]], "n": 2, "max_tokens": 3, "ignore_eos": True}
    usage = tiny_server.post("/v1/completions", body).json()["usage"]
    assert usage == {"prompt_tokens": 4, "completion_tokens": 12, "total_tokens": 16}
