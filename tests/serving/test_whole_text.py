"""Fifty sentences through every route, engine and way of spelling: what arrives is what the model said."""

import asyncio
import json
from pathlib import Path

import httpx
import parrot
import pytest
import tiny
from conftest import listening
from llmserving.server import load
from llmserving.settings import from_mapping
from sentences import SENTENCES
from transformers import AutoTokenizer

PROMPT = "<|user|>{}</s><|assistant|>"  # what the chat template makes of a question
ROUTES = {
    "/inference": lambda words: {"input": words},
    "/chat/completions": lambda words: {"messages": [{"role": "user", "content": words}]},
    "/v1/chat/completions": lambda words: {"messages": [{"role": "user", "content": words}]},
    "/v1/completions": lambda words: {"prompt": PROMPT.format(words), "max_tokens": 120},
    "/embeddings/QuestionAnswer": lambda words: {"prompt": [{"role": "user", "content": words}]},
}
STREAMS = [route for route in ROUTES if route != "/inference"]
DEMO = Path(__file__).resolve().parents[2] / ".run" / "model" / "base"


def demo_tokenizer():
    """Return the tokenizer of the model that `make run` serves."""
    if not (DEMO / "tokenizer.json").is_file():
        pytest.skip(f"no {DEMO}: `make run` makes it")
    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    tokenizer.chat_template = tiny.TEMPLATE
    return tokenizer


SPELLINGS = {
    "byte level": tiny.make_tokenizer,
    "byte fallback": tiny.make_byte_fallback_tokenizer,
    "the demo's": demo_tokenizer,
}


@pytest.fixture(scope="module", params=SPELLINGS)
def folder(request, tmp_path_factory):
    """Return the folder of a model that says the sentences."""
    folder, tokenizer = tmp_path_factory.mktemp("parrot"), SPELLINGS[request.param]()
    parrot.add_topics(tokenizer, len(SENTENCES))
    answers = [[*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id] for text in SENTENCES]
    start = len(tokenizer.encode(PROMPT.format(parrot.topic(0))))
    parrot.make_parrot(tokenizer, answers, start).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert [tokenizer.decode(answer, skip_special_tokens=True) for answer in answers] == SENTENCES
    return folder


def wanted(folder, route):
    """Return the texts that transformers decodes: a completion goes on after its prompt, a message begins anew."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.encode(PROMPT.format(parrot.topic(0))) if route == "/v1/completions" else []
    answers = [tokenizer.encode(text, add_special_tokens=False) for text in SENTENCES]
    before = len(tokenizer.decode(prompt, skip_special_tokens=True))
    return [tokenizer.decode([*prompt, *answer], skip_special_tokens=True)[before:] for answer in answers]


@pytest.fixture(scope="module", params=["continuous", "generate"])
def running(request, folder):
    settings = {"model_dir": folder, "model_name": "parrot", "engine": request.param, "kv_cache_tokens": 4096}
    with listening(load(from_mapping(settings))) as found:
        yield found


def ask(running, route, *, stream, every=1, **more):
    """Return the answers to all topics, or to some of them."""

    async def all_at_once():
        async with httpx.AsyncClient(base_url=running.url, timeout=180) as client:
            bodies = [{**ROUTES[route](parrot.topic(number)), **more} for number in range(0, len(SENTENCES), every)]
            options = {"params": {"stream": "true"}} if "Question" in route and stream else {}
            asked = [{**body, "temperature": 0, **({"stream": True} if stream else {})} for body in bodies]
            return await asyncio.gather(*(client.post(route, json=body, **options) for body in asked))

    responses = asyncio.run(all_at_once())
    assert {response.status_code for response in responses} == {200}, responses[0].text
    if not stream:
        return [whole_text(response.json()) for response in responses]
    pieces = zhipu_pieces if "Question" in route else openai_pieces
    return [pieces(response.text) for response in responses]


def whole_text(answer):
    if "output" in answer:
        return answer["output"]
    choice = (answer.get("data") or answer)["choices"][0]
    return choice.get("content") or choice.get("text") or choice["message"]["content"]


def openai_pieces(text):
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
    choices = [choice for line in lines for choice in json.loads(line)["choices"]]
    return [choice["text"] if "text" in choice else choice["delta"].get("content", "") for choice in choices]


def zhipu_pieces(text):
    events = [block.split("\n") for block in text.removesuffix("\n\n").split("\n\n")]
    assert events[-1][0] == "event:finish"
    return ["\n".join(line.removeprefix("data: ") for line in event[2:]) for event in events[:-1]]


@pytest.mark.parametrize("route", ROUTES)
def test_every_sentence_arrives_whole(running, folder, route):
    assert ask(running, route, stream=False) == wanted(folder, route)


@pytest.mark.parametrize("route", STREAMS)
def test_the_pieces_of_every_stream_are_the_sentence_and_none_is_broken(running, folder, route):
    streamed = ask(running, route, stream=True)
    assert ["".join(pieces) for pieces in streamed] == wanted(folder, route)
    assert not any("\ufffd" in piece for pieces in streamed for piece in pieces)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8])
def test_an_answer_that_ends_by_its_length_has_every_whole_character_and_the_rest_once(running, length):
    whole = ask(running, "/v1/completions", stream=False, every=3, max_tokens=length)
    streamed = ask(running, "/v1/completions", stream=True, every=3, max_tokens=length)
    assert ["".join(pieces) for pieces in streamed] == whole
    for text, sentence in zip(whole, SENTENCES[::3], strict=True):
        said = text.strip("\ufffd")
        assert sentence.lstrip().startswith(said.lstrip())
        assert len(text) - len(said) <= 3


@pytest.mark.parametrize("stream", [True, False])
def test_a_stop_string_cuts_between_characters_that_are_spelt_in_bytes(running, stream):
    stops = ["，", "ा", "\u200d", "界！", "\n"]
    found = ask(running, "/v1/chat/completions", stream=stream, every=2, stop=stops)
    texts = ["".join(pieces) for pieces in found]
    for text, sentence in zip(texts, SENTENCES[::2], strict=True):
        cuts = [sentence.index(stop) for stop in stops if stop in sentence]
        assert text == sentence[: min(cuts, default=None)]


def test_the_bytes_of_the_log_probabilities_are_the_sentence(running):
    for number in (0, 21, 27, 38):
        body = {**ROUTES["/v1/chat/completions"](parrot.topic(number)), "temperature": 0, "logprobs": True}
        report = running.post("/v1/chat/completions", body).json()["choices"][0]["logprobs"]["content"]
        text = bytes(byte for entry in report[:-1] for byte in entry["bytes"]).decode()
        assert text.removeprefix(" ") == SENTENCES[number]


def test_without_a_chat_template_an_inference_goes_on_after_its_text(serve, tmp_path):
    tokenizer = tiny.make_byte_fallback_tokenizer()
    parrot.add_topics(tokenizer, 1)
    prompt, answer = tokenizer.encode(f"the {parrot.topic(0)}"), tokenizer.encode("the dog、猫")
    parrot.make_parrot(tokenizer, [[*answer, tokenizer.eos_token_id]], len(prompt)).save_pretrained(tmp_path)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    running = serve(model_dir=tmp_path, engine="generate")
    assert running.post("/inference", {"input": f"the {parrot.topic(0)}"}).json()["output"] == " the dog、猫"
