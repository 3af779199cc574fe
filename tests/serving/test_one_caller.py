"""No caller ends the engine, or another's answer: numbers at their extremes, and words the model cannot read."""

import asyncio
import math
from contextlib import contextmanager

import httpx
import pytest
import tiny
import torch
from bodies import CHAT, FIELDS, HI, NUMBERS, QA, TEXT, written
from conftest import here, listening
from hypothesis import given, settings
from hypothesis import strategies as st
from llmserving.engines.base import Sampling, SequenceError
from llmserving.engines.local import load_local
from llmserving.server import load
from llmserving.settings import from_mapping
from transformers import AutoTokenizer

NEIGHBOUR = {"prompt": "The quick", "max_tokens": 24, "temperature": 0, "ignore_eos": True}
several = settings(max_examples=80, deadline=None, database=None)


async def beside(running, *calls):
    """Post bodies while a neighbour is answered; return all responses, the neighbour's first."""
    headers = {"Content-Type": "application/json"}
    async with httpx.AsyncClient(base_url=running.url, timeout=180, headers=headers) as client:
        posts = [client.post(path, content=content) for path, content in calls]
        return await asyncio.gather(client.post(TEXT, json=NEIGHBOUR), *posts)


def check_beside(running, *calls):
    """Return the answers to calls: each 200 or 400 with a sentence, and the neighbour's text what it always is."""
    neighbour, *others = asyncio.run(beside(running, *calls))
    assert neighbour.status_code == 200, neighbour.text
    assert neighbour.json()["choices"][0]["text"] == running.usual
    for response in others:
        assert response.status_code in {200, 400}, response.text
        assert response.status_code == 200 or response.json()["error"]["message"]
    assert running.client.get("/ready").status_code == 200
    return others


@contextmanager
def beside_which(**settings):
    """Serve with room for everybody: a server that is full refuses neighbours too, and says so."""
    with listening(load(from_mapping({"max_waiting": 4000, **settings}))) as found:
        found.usual = found.post(TEXT, NEIGHBOUR).json()["choices"][0]["text"]
        yield found


@pytest.fixture(scope="module", params=["continuous", "generate"])
def running(request, base):
    with beside_which(model_dir=base, engine=request.param) as found:
        yield found


@pytest.mark.parametrize("path", FIELDS)
def test_every_number_at_every_extreme_is_answered_or_refused(running, path):
    body, names = FIELDS[path]
    for name in names:
        check_beside(running, *((path, written(body, {name: number})) for number in NUMBERS))


@several
@given(data=st.data())
def test_several_numbers_at_their_extremes_are_answered_or_refused_together(running, data):
    calls = []
    for path in data.draw(st.lists(st.sampled_from([path for path in FIELDS if "embed" not in path]), max_size=4)):
        body, names = FIELDS[path]
        said = data.draw(st.dictionaries(st.sampled_from(names), st.sampled_from(NUMBERS[:16]), max_size=5))
        calls.append((path, written(body, said)))
    check_beside(running, *calls)


@pytest.mark.parametrize("number", NUMBERS)
def test_biases_and_token_ids_at_every_extreme_are_answered_or_refused(running, number):
    key = number.strip('"').replace("{}", "").replace("[]", "")
    check_beside(
        running,
        (TEXT, written({"prompt": "ab", "max_tokens": 2, "logit_bias": {key: 1}}, {})),
        (TEXT, written({"prompt": "ab", "max_tokens": 2}, {"logit_bias": f'{{"7": {number}}}'})),
        (TEXT, written({"max_tokens": 2}, {"prompt": f"[{number}]"})),
        ("/v1/embeddings", written({}, {"input": f"[{number}]"})),
        ("/detokenize", written({}, {"tokens": f"[{number}]"})),
    )


@pytest.mark.parametrize("path", ["/inference", CHAT, QA])
def test_the_calls_that_ended_the_engine(running, path):
    body, _ = FIELDS[path]
    cold = check_beside(running, (path, written(body, {"temperature": "1e-38"})))
    assert cold[0].status_code == 200
    told = [{"temperature": "1", "repetition_penalty": "1e-39"}, {"logit_bias": '{"400": 1}'}]
    check_beside(running, *((path, written(body, fields)) for fields in told))


def test_a_temperature_near_nought_is_a_hundredth(running):
    """So vLLM has it: greedy in all but ties; 0 itself is greedy."""
    answers = [
        running.post(TEXT, {"prompt": "ab", "max_tokens": 20, "seed": 1, "temperature": temperature}).json()
        for temperature in (1e-40, 0.0099, 0.01)
    ]
    assert len({answer["choices"][0]["text"] for answer in answers}) == 1


# A tokenizer with more tokens than the model


@pytest.fixture(scope="module")
def small(base, tmp_path_factory):
    """Return a model to whose tokenizer a token was added, and that was never resized."""
    folder = tiny.save_base(tmp_path_factory.mktemp("model") / "small")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["continuous", "generate"])
def unread(request, small):
    with beside_which(model_dir=small, engine=request.param) as found:
        yield found


PAD = "what does [PAD] mean?"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": [{"role": "user", "content": PAD}]}),
        ("/inference", {"input": PAD}),
        (QA, {"prompt": PAD}),
        (TEXT, {"prompt": PAD}),
        (TEXT, {"prompt": [400]}),
        ("/v1/embeddings", {"input": PAD}),
        ("/v1/embeddings", {"input": [400]}),
        (CHAT, {"messages": HI, "logit_bias": {"400": 1}}),
    ],
)
def test_a_word_that_the_model_cannot_read_is_refused_by_name(unread, path, body):
    (response,) = check_beside(unread, (path, written(body, {})))
    assert response.status_code == 400
    assert '"[PAD]" is token 400 of the tokenizer, and the model has 400' in response.json()["error"]["message"]


def test_the_log_says_at_the_start_which_words_those_are(small, serve, caplog):
    serve(model_dir=small, engine="generate")
    assert "the tokenizer has 401 tokens and the model's embedding 400" in caplog.text
    assert "refused ('[PAD]')" in caplog.text


# What no request can ask for any more ends its own sequence in the engine


@pytest.fixture(scope="module", params=["continuous", "generate"])
def engine(request, base):
    server = here(model_dir=base, engine=request.param)
    yield server.engine
    server.close()


async def tokens(engine, sampling, prompt=(5, 6, 7)):
    return [token.id async for token in engine.submit(prompt, sampling)]


def together(engine, *calls):
    async def run():
        return await asyncio.gather(*(tokens(engine, *call) for call in calls), return_exceptions=True)

    return asyncio.run(run())


PLAIN = Sampling(max_tokens=30, temperature=0)


@pytest.mark.parametrize(
    "broken",
    [
        {"temperature": 1e-40},
        {"temperature": 1.0, "repetition_penalty": 1e-45},
        {"temperature": math.nan},
        {"temperature": 0, "logit_bias": {5: math.nan}},
        {"temperature": 0, "logit_bias": {5: math.inf}},
        {"temperature": 0, "logit_bias": {400: 1.0}},
        {"temperature": 1.0, "logit_bias": {2**40: 1.0}},
        {"temperature": 1.0, "min_p": math.nan},
    ],
)
def test_a_sequence_that_cannot_be_continued_fails_alone(engine, broken):
    usual = asyncio.run(tokens(engine, PLAIN))
    bad = Sampling(max_tokens=30, **broken)
    found = together(engine, (PLAIN,), (bad,), (PLAIN,), (bad,))
    assert found[::2] == [usual, usual]
    assert all(isinstance(error, SequenceError) for error in found[1::2]), found[1::2]
    engine.check_health()


@pytest.mark.parametrize("prompt", [(400,), (5, 2**40), (-1,), ()])
def test_a_prompt_that_cannot_be_read_fails_alone(engine, prompt):
    usual = asyncio.run(tokens(engine, PLAIN))
    found = together(engine, (PLAIN,), (PLAIN, prompt), (PLAIN,))
    assert found[::2] == [usual, usual]
    assert isinstance(found[1], SequenceError)
    engine.check_health()


def test_a_fault_that_nobody_foresaw_in_one_row_is_that_rows(engine, monkeypatch):
    usual = asyncio.run(tokens(engine, PLAIN))
    monkeypatch.setattr("llmserving.engines.sampler.draw", lambda *_: 1 / 0)
    found = together(engine, (PLAIN,), (Sampling(max_tokens=9, temperature=1.0),), (PLAIN,))
    assert found[::2] == [usual, usual]
    assert "could not be chosen" in str(found[1])
    engine.check_health()


def test_a_text_whose_vector_is_no_vector_fails_alone(base):
    engine, encoder = load_local(from_mapping({"model_dir": base, "engine": "generate"}))
    with torch.inference_mode():
        encoder.model.get_input_embeddings().weight[7] = math.nan
    with pytest.raises(SequenceError, match="no numbers"):
        asyncio.run(encoder.embed([[5, 7]]))
    assert len(asyncio.run(encoder.embed([[5, 6]]))[0]) == encoder.embedding_width == 64
    with pytest.raises(SequenceError, match="400 that the model can read"):
        asyncio.run(encoder.embed([[400]]))
    engine.close()


def test_what_a_broken_sequence_is_told_reaches_its_caller(small, serve, monkeypatch):
    monkeypatch.setattr("llmserving.api.sequences.COLDEST", 0)
    running = serve(here(model_dir=small, engine="continuous"))
    response = running.post(TEXT, {"prompt": "ab", "temperature": 1e-40})
    assert response.status_code == 500
    assert "the answer cannot go on: the model's numbers" in response.json()["error"]["message"]
    streamed = running.post(TEXT, {"prompt": "ab", "temperature": 1e-40, "stream": True}).text
    assert "the answer cannot go on" in streamed
    assert streamed.endswith("data: [DONE]\n\n")
