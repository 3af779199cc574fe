"""Bodies that are meant to hurt: each gets its answer, and the others theirs meanwhile."""

import asyncio
import inspect
import json
import socket
import threading
import time
from json import JSONDecodeError

import pytest
from conftest import listening, tokens_made, wait_for
from llmserving import overtime, rendering
from llmserving.api import answer, messages, requests
from llmserving.api import body as bodies
from llmserving.api.callers import CALLER
from llmserving.overtime import Workshop
from llmserving.server import load
from llmserving.settings import from_mapping
from pydantic import BaseModel, ValidationError, model_validator

POSTS = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/openai/v1/chat/completions",
    "/chat/completions",
    "/inference",
    "/embeddings/QuestionAnswer",
    "/tokenize",
    "/detokenize",
]
NO_JSON = {
    "nothing": b"",
    "half an object": b'{"messages": [',
    "a list": b"[1, 2]",
    "null": b"null",
    "a string": b'"messages"',
    "no UTF-8": b'{"input": "\xff"}',
    "UTF-16": '{"input": "a"}'.encode("utf-16"),
    "nested 100,000 deep": b"[" * 100_000,
    "nested 100,000 deep inside": b'{"input": ' + b'{"a":' * 100_000,
    "5,000 digits": b'{"seed": ' + b"1" * 5000 + b"}",
    "5,000 digits deep inside": b'{"metadata": {"a": [{"b": -' + b"9" * 5000 + b"}]}}",
    "a key twice": b'{"input": "a", "input": "b"}',
    "a key twice deep inside": b'{"metadata": [{"a": 1, "b": 2, "a": null}]}',
    "NaN": b'{"temperature": NaN}',
    "Infinity deep inside": b'{"metadata": {"a": [-Infinity]}}',
    "half a surrogate pair": b'{"input": "\\ud800"}',
    "half a surrogate pair in a key": b'{"metadata": {"\\uDFFF": 1}}',
    "more after the end": b'{"input": "a"} {"input": "b"}',
}
BOMB = (
    "{% for i in range(count or 0) %}{% for j in range(count) %}{% endfor %}{% endfor %}"
    "{% macro many(n) %}{% for i in range(n) %}word {% endfor %}{% endmacro %}"
    "{% for i in range(copies or 0) %}word {% endfor %}{% if in_a_macro %}{{ many(in_a_macro) | length }}{% endif %}"
    "{{ messages[0].content }}"
)
JSON = {"Content-Type": "application/json"}
MANY = range(5000)


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("raw", NO_JSON.values(), ids=NO_JSON)
def test_what_is_no_json_to_the_letter_is_refused_on_every_route(echo, path, raw):
    response = echo.client.post(path, content=raw, headers=JSON)
    assert response.status_code == 400, response.text
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert "the body" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (NO_JSON["5,000 digits deep inside"], "a number in it has thousands of digits"),
        (NO_JSON["a key twice deep inside"], "the key 'a' is given twice in one object"),
        (NO_JSON["NaN"], "NaN is no number of JSON"),
        (NO_JSON["half a surrogate pair in a key"], "half a surrogate pair"),
        (NO_JSON["nested 100,000 deep"], "nested too deeply"),
        (NO_JSON["no UTF-8"], r"it is not UTF-8"),
    ],
)
def test_the_fault_of_a_body_is_named(raw, words):
    with pytest.raises(JSONDecodeError, match=words):
        bodies.parse(raw)


def test_what_only_looks_strange_is_read():
    text = '\ufeff{"a": "\\ud83d\\ude00 \\u0000 \\ud55c", "b": 1e400, "c": -0.0}'
    assert bodies.parse(text.encode()) == {"a": "😀 \0 한", "b": float("inf"), "c": 0.0}


def test_a_body_of_another_content_type_is_told_which_one_is_read(echo):
    for headers in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}):
        response = echo.client.post("/v1/completions", content=b'{"prompt": "a"}', headers=headers)
        assert response.status_code == 400
        assert "Content-Type: application/json" in response.json()["error"]["message"]
    headers = {"Content-Type": "application/vnd.api+json; charset=utf-8"}
    assert echo.client.post("/v1/completions", content=b'{"prompt": "a"}', headers=headers).status_code == 200


def test_a_wrong_value_in_the_query_is_named(echo):
    error = echo.post("/embeddings/QuestionAnswer?stream=maybe", {"prompt": "a"}).json()["error"]
    assert (error["message"], error["param"]) == ('stream: true or false is accepted, not "maybe"', "stream")


def post_chat(running, **more):
    return running.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], **more})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", int("9" * 4299)),
        ("max_tokens", int("9" * 4299)),
        ("max_completion_tokens", int("9" * 4299)),
        ("n", int("9" * 4299)),
        ("top_k", -int("9" * 4299)),
        ("temperature", int("9" * 4299)),
        ("temperature", 1e308),
        ("logit_bias", {"1" * 5000: 1}),
        ("logit_bias", {"5": int("9" * 4299)}),
        ("logit_bias", {"-1": 1}),
        ("logit_bias", {" 5": 1}),
        ("logit_bias", {"五": 1}),
        ("logit_bias", {"5\n": 1}),
        ("logit_bias", {str(number): 1 for number in range(1025)}),
        ("response_format", {"type": "x" * 100_000}),
        ("messages", [{"role": "user", "content": ["x"] * 100_000}]),
        ("messages", [{"role": "x" * 100_000, "content": "a"}]),
        ("model", "x" * 100_000),
        ("stop", ["x"] * 100_000),
        ("chat_template_kwargs", {"x" * 100_000: 1}),
        ("chat_template_kwargs", {f"a{number}": 1 for number in range(33)}),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else "",
)
def test_a_value_beyond_all_bounds_is_refused_in_few_words(echo, name, value):
    response = post_chat(echo, **{name: value})
    assert response.status_code in {400, 404}, response.text
    assert response.json()["error"]["param"] == name
    assert len(response.content) < 1000


@pytest.mark.parametrize("prompt", [[-1] * 100_000, [[-1]] * 100, [1, *["a"] * 100_000], ["a", *[7] * 100_000]])
def test_the_first_fault_of_a_long_list_is_enough(echo, prompt):
    with pytest.raises(ValidationError) as caught:
        requests.CompletionRequest.model_validate({"prompt": prompt})
    assert caught.value.error_count() <= 4  # one for each kind that a prompt may be of
    response = echo.post("/v1/completions", {"prompt": prompt})
    assert response.status_code == 400
    assert len(response.content) < 1000


HI = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("kind", "body", "name", "entries"),
    [
        (requests.ChatRequest, {"messages": [HI]}, "logit_bias", {f"x{n}": "y" for n in MANY}),
        (requests.ChatRequest, {"messages": [HI]}, "chat_template_kwargs", {f"x {n}": [] for n in MANY}),
        (requests.ChatRequest, {"messages": [HI]}, "stop", ["" for _ in MANY]),
        (requests.ChatRequest, {}, "messages", [{} for _ in MANY]),
        (requests.CompletionRequest, {}, "prompt", ["" for _ in MANY]),
        (requests.CompletionRequest, {}, "prompt", [[] for _ in MANY]),
        (requests.EmbeddingRequest, {}, "input", ["" for _ in MANY]),
        (requests.TokenizeRequest, {}, "messages", [{} for _ in MANY]),
        (requests.ZhipuRequest, {}, "prompt", [{} for _ in MANY]),
        (messages.Message, {"role": "user"}, "content", [{} for _ in MANY]),
    ],
)
def test_how_many_entries_there_are_is_looked_at_before_what_is_in_them(kind, body, name, entries):
    """An error for each entry of a body of 4 MiB would take half a gigabyte."""
    with pytest.raises(ValidationError) as caught:
        kind.model_validate({**body, name: entries})
    found = [error["type"] for error in caught.value.errors()]
    assert set(found) <= {"too_long", "string_type"}
    assert "too_long" in found


def test_the_parts_of_all_messages_are_counted_before_any_is_looked_at(echo):
    parts = [{"type": "text", "text": ""}] * 2048
    with pytest.raises(ValidationError) as caught:
        requests.ChatRequest.model_validate({"messages": [{"role": "bot", "content": parts}] * 5})
    assert [error["type"] for error in caught.value.errors()] == ["parts"]
    allowed = {"messages": [{"role": "user", "content": parts}] * 4}
    assert len(requests.ChatRequest.model_validate(allowed).messages) == 4
    response = echo.post("/v1/chat/completions", {"messages": [{"role": "user", "content": parts}] * 5})
    assert response.json()["error"]["message"] == "messages: they have at most 8192 parts in all"


async def waits():
    """Hear of a caller who does not hang up, as an application does: nothing comes."""
    await asyncio.Event().wait()


def test_few_long_bodies_are_read_at_once_however_many_come():
    """Each may take more than a hundred megabytes while it is read."""
    reading, most, lock = set(), [], threading.Lock()

    class Anything(BaseModel):
        pass

    def parse(raw):
        with lock:
            reading.add(threading.get_ident())
            most.append(len(reading))
        time.sleep(0.05)  # long enough for others to come, if they could
        with lock:
            reading.discard(threading.get_ident())
        return {}

    async def scenario():
        CALLER.set(waits)
        raw = b" " * bodies.OFF_THE_LOOP
        await asyncio.gather(*(bodies.read(Anything, raw, parse) for _ in range(12)))

    asyncio.run(scenario())
    assert len(most) == 12
    assert max(most) <= 2


def test_a_long_body_is_read_and_a_conversation_rendered_beside_the_loop():
    seen = []

    class Noted(BaseModel):
        @model_validator(mode="after")
        def note(self):
            seen.append(threading.get_ident())
            return self

    async def scenario():
        CALLER.set(waits)
        await bodies.read(Noted, b'{"a": 1}')
        await bodies.read(Noted, b'{"a": 1}' + b" " * bodies.OFF_THE_LOOP)

    asyncio.run(scenario())
    asyncio.run(Workshop().do(lambda: str(seen.append(threading.get_ident())), 30))
    assert [thread == threading.get_ident() for thread in seen] == [True, False, False]


def test_every_route_is_still_described(echo):
    described = echo.client.get("/openapi.json").json()
    assert set(POSTS) <= set(described["paths"])
    assert "ChatRequest" in described["components"]["schemas"]


# The options of the chat template.


@pytest.mark.parametrize("name", sorted(rendering.RESERVED))
def test_no_caller_says_how_the_chat_template_is_applied(echo, name):
    response = post_chat(echo, chat_template_kwargs={name: "x"})
    assert response.status_code == 400
    assert f"chat_template_kwargs.{name}: this is no option" in response.json()["error"]["message"]


def test_what_is_reserved_is_all_that_transformers_would_take_for_its_own():
    from transformers import PreTrainedTokenizerBase
    from transformers.utils.chat_template_utils import render_jinja_template

    for function in (PreTrainedTokenizerBase.apply_chat_template, render_jinja_template):
        assert set(inspect.signature(function).parameters) <= rendering.RESERVED
    assert set(PreTrainedTokenizerBase.SPECIAL_TOKENS_ATTRIBUTES) - {"additional_special_tokens"} <= rendering.RESERVED


@pytest.mark.parametrize("value", [[1], {"a": 1}, "x" * 1025, 1_000_001, -1e7, 10**4000, 1e400])
def test_an_option_of_the_template_is_small(echo, value):
    response = echo.client.post(
        "/v1/chat/completions",
        content=json.dumps({"messages": [{"role": "user", "content": "hi"}], "chat_template_kwargs": {"a": value}})
        .replace("Infinity", "1e400")
        .encode(),
        headers=JSON,
    )
    assert response.status_code == 400
    assert "a string of up to 1024 characters is accepted" in response.json()["error"]["message"]


@pytest.fixture(scope="module")
def bombs(base, tmp_path_factory):
    """Serve a model whose template counts as far, and writes as much, as its options say."""
    template = tmp_path_factory.mktemp("template") / "bomb.jinja"
    template.write_text(BOMB)
    settings = {"model_dir": base, "engine": "generate", "chat_template": template}
    with listening(load(from_mapping(settings))) as running:
        yield running


def test_a_rendering_that_does_not_end_is_ended_and_the_others_are_answered_meanwhile(bombs, monkeypatch):
    monkeypatch.setattr(rendering, "SECONDS", 1.0)
    responses = []
    options = {"count": 100_000}  # times itself: hours
    ask = threading.Thread(target=lambda: responses.append(post_chat(bombs, chat_template_kwargs=options)))
    ask.start()
    answered = 0
    while ask.is_alive() and answered < 20:
        assert bombs.client.get("/health").status_code == 200
        answered += not responses
    ask.join(120)
    assert answered > 0
    assert responses[0].status_code == 400
    assert "still at work" in responses[0].json()["error"]["message"]
    assert post_chat(bombs, max_tokens=1).status_code == 200


def test_the_threads_of_renderings_that_were_ended_go_on_with_others(bombs, monkeypatch):
    monkeypatch.setattr(rendering, "SECONDS", 0.05)
    for _ in range(12):
        wait_for(lambda: not bombs.server.workshop._free.locked(), "one that was ended has left its thread", 30)
        assert post_chat(bombs, chat_template_kwargs={"count": 100_000}).status_code == 400
    monkeypatch.setattr(rendering, "SECONDS", 10.0)
    for _ in range(12):
        assert post_chat(bombs, max_tokens=1).status_code == 200


def test_more_slow_renderings_than_can_wait_are_refused_and_all_else_is_answered(bombs, monkeypatch):
    monkeypatch.setattr(rendering, "SECONDS", 5.0)
    monkeypatch.setattr(overtime, "MOST_WAITING", 0)
    slow = {"messages": [{"role": "user", "content": "hi"}], "chat_template_kwargs": {"count": 100_000}}
    posts = [threading.Thread(target=bombs.post, args=("/tokenize", slow)) for _ in range(overtime.THREADS)]
    for post in posts:
        post.start()
    wait_for(bombs.server.workshop._free.locked, "all threads are busy", 30)
    refused = post_chat(bombs)
    assert bombs.post("/tokenize", {"prompt": "word " * 1000}).status_code == 200  # in a thread, too
    assert any(post.is_alive() for post in posts)
    assert refused.status_code == 429
    assert "chat template is at work on other conversations" in refused.json()["error"]["message"]
    assert int(refused.headers["retry-after"]) > 0
    for post in posts:
        post.join(120)
    assert post_chat(bombs, max_tokens=1).status_code == 200


@pytest.mark.parametrize("options", [{"copies": 100_000}, {"in_a_macro": 100_000}])
def test_a_rendering_that_grows_without_end_is_ended(bombs, monkeypatch, options):
    monkeypatch.setattr(rendering, "MOST_CHARACTERS", 50_000)
    response = post_chat(bombs, chat_template_kwargs=options)
    assert response.status_code == 400
    assert "more than 50000 characters" in response.json()["error"]["message"]


def test_a_rendering_beyond_the_context_is_not_encoded(bombs, monkeypatch):
    tokenizer = bombs.server.tokenizer
    monkeypatch.setattr(tokenizer, "encode", None)
    response = post_chat(bombs, chat_template_kwargs={"copies": 50_000})
    assert response.status_code == 400
    assert "characters: more than the model's context" in response.json()["error"]["message"]


# A comma too many.


def counted(monkeypatch):
    calls = []
    real = json.loads
    monkeypatch.setattr(bodies.json, "loads", lambda *given, **options: (calls.append(1), real(*given, **options))[1])
    return calls


@pytest.mark.parametrize(
    "raw",
    [
        b'{"input":"' + b'\\"' * 24_000,
        b'{"input":"' + b'\\"' * 2_000_000,
        b'{"input":"a"' + b"," * 1_000_000,
        b'{"input":"a",' + b" " * 1_000_000,
        b'{"input":"a"' + b",}" * 30_000,
    ],
)
def test_a_body_is_read_twice_at_most_however_it_is_broken(monkeypatch, raw):
    calls = counted(monkeypatch)
    with pytest.raises(JSONDecodeError):
        bodies.parse_forgiving(raw)
    assert len(calls) <= 2


def test_only_a_body_that_a_person_may_have_written_is_mended(monkeypatch):
    calls = counted(monkeypatch)
    assert bodies.parse_forgiving(b'{"input": "a", "metadata": [1, 2 , ] }')["input"] == "a"
    assert len(calls) == 2
    with pytest.raises(JSONDecodeError):
        bodies.parse_forgiving(b'{"input": "' + b"a" * bodies.MENDABLE + b'",}')
    assert len(calls) == 3


def test_a_good_body_is_not_searched_for_commas(monkeypatch):
    calls = counted(monkeypatch)
    assert bodies.parse_forgiving(b'{"input": "a,}"}')["input"] == "a,}"
    assert len(calls) == 1


# A reader who does not read.


def test_a_reader_who_does_not_read_loses_its_place_when_its_time_is_up(serve, monkeypatch):
    monkeypatch.setattr(answer, "LAST_WORDS", 0.5)
    running = serve(engine="echo", max_length=300_000, request_timeout=1.0)
    # More than any buffer between the two holds.
    question = json.dumps({"prompt": "x" * 100_000, "max_tokens": 100_000, "stream": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {len(question)}\r\n"
    address = ("127.0.0.1", running.client.base_url.port)
    with socket.create_connection(address) as deaf:
        deaf.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + question)
        wait_for(lambda: tokens_made(running) > 0, "the answer has begun", 30)
        wait_for(lambda: running.server.admission.inside == 0, "its place is free", 30)
        assert running.post("/inference", {"input": "a"}).status_code == 200
