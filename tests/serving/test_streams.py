"""Streams: their events, their text, and what happens when something goes wrong in their middle."""

import asyncio
import json

import pytest
import tiny
from llmserving.engines.base import EngineDeadError
from llmserving.engines.echo import EchoEngine
from llmserving.server import assemble
from llmserving.settings import from_mapping
from llmserving.tokenizer import ByteTokenizer, ModelTokenizer

TEXT = "/v1/completions"
MIXED = "Grüße 你好，世界 🎉👩‍👩‍👧\n\n- a\r\n\nend"


def messages(text):
    return [{"role": "user", "content": text}]


def contents(events):
    return "".join(c["delta"].get("content") or "" for e in events for c in e["choices"])


def broken_server(after, error, **settings):
    """Return a server whose engine fails after some tokens."""

    class Failing(EchoEngine):
        async def submit(self, prompt, sampling):
            made = 0
            async for token in super().submit(prompt, sampling):
                if made == after:
                    raise error
                made += 1
                yield token

    return assemble(from_mapping({"engine": "echo", **settings}), ByteTokenizer(), Failing())


def slow_server(delay, **settings):
    return assemble(from_mapping({"engine": "echo", **settings}), ByteTokenizer(), EchoEngine(delay=delay))


def test_a_chat_stream_has_role_text_reason_and_done_in_this_order(echo):
    events = echo.events("/v1/chat/completions", {"messages": messages("hi"), "stream": True})
    deltas = [event["choices"][0] for event in events]
    assert deltas[0]["delta"] == {"role": "assistant", "content": ""}
    assert contents(events) == "hi"
    assert [delta["finish_reason"] for delta in deltas] == [None, None, None, "stop"]
    assert len({event["id"] for event in events}) == 1


def test_usage_comes_last_and_only_when_asked_for(echo):
    body = {"messages": messages("hi"), "stream": True}
    assert not any("usage" in event for event in echo.events("/v1/chat/completions", body))
    events = echo.events("/v1/chat/completions", {**body, "stream_options": {"include_usage": True}})
    assert [bool(event.get("usage")) for event in events] == [False] * (len(events) - 1) + [True]
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}


def test_usage_comes_with_every_chunk_when_asked_for(echo):
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"prompt": "abc", "stream": True, "stream_options": options}
    events = echo.events("/v1/completions", body)
    assert [event["usage"]["completion_tokens"] for event in events] == [1, 2, 3, 4, 4]


def test_each_choice_of_a_stream_is_whole(echo):
    events = echo.events("/v1/completions", {"prompt": ["ab", "你"], "n": 2, "stream": True})
    texts = dict.fromkeys(range(4), "")
    for event in events:
        for choice in event["choices"]:
            texts[choice["index"]] += choice["text"]
    assert texts == {0: "ab", 1: "ab", 2: "你", 3: "你"}


def test_chinese_and_emoji_arrive_whole_in_every_event(echo):
    events = echo.events("/v1/chat/completions", {"messages": messages(MIXED), "stream": True})
    assert contents(events) == MIXED
    assert not any("\ufffd" in json.dumps(event, ensure_ascii=False) for event in events)


def test_a_stream_says_what_keeps_proxies_from_holding_it_back(echo):
    response = echo.post("/v1/chat/completions", {"messages": messages("hi"), "stream": True})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["x-accel-buffering"] == "no"
    assert "no-transform" in response.headers["cache-control"]


def test_stop_strings_cut_a_stream_and_an_answer_alike(echo):
    body = {"messages": messages("one\n\ntwo"), "stop": ["\n\n", "zzz"]}
    whole = echo.post("/v1/chat/completions", body).json()["choices"][0]
    events = echo.events("/v1/chat/completions", {**body, "stream": True})
    assert whole["message"]["content"] == contents(events) == "one"
    assert (whole["finish_reason"], whole["stop_reason"]) == ("stop", "\n\n")
    last = events[-1]["choices"][0]
    assert (last["finish_reason"], last["stop_reason"]) == ("stop", "\n\n")


@pytest.fixture(
    scope="module", params=[tiny.make_tokenizer, tiny.make_byte_fallback_tokenizer], ids=["gpt2", "llama2"]
)
def of_a_model(request, tmp_path_factory):
    """Return a tokenizer as a model's folder has it."""
    folder = tmp_path_factory.mktemp("tokenizer")
    request.param().save_pretrained(folder)
    return ModelTokenizer(folder, trust=False)


def echoes(tokenizer):
    """Return a server that says again what it is told, in a model's tokens."""
    return assemble(from_mapping({"engine": "echo"}), tokenizer, EchoEngine(stop_id=tokenizer.vocabulary_size - 1))


@pytest.mark.parametrize("stream", [False, True])
def test_an_echo_is_the_prompt_as_it_was_given_its_special_tokens_and_blanks_included(serve, of_a_model, stream):
    running, prompts = serve(echoes(of_a_model)), ["<|user|>Hi</s><|assistant|>", "Emoji: 😀", "  the dog"]
    in_tokens = [of_a_model.encode(prompt) for prompt in prompts]
    read = [of_a_model.decode(ids, special=True) for ids in in_tokens]
    for given, wanted in ((prompts, prompts), (in_tokens, read)):
        body = {"prompt": given, "echo": True, "max_tokens": 1}
        texts = dict.fromkeys(range(3), "")
        for answer in running.events(TEXT, {**body, "stream": True}) if stream else [running.post(TEXT, body).json()]:
            for choice in answer["choices"]:
                texts[choice["index"]] += choice["text"]
        assert [text.startswith(one) for text, one in zip(texts.values(), wanted, strict=True)] == [True] * 3, texts


def test_log_probabilities_of_a_stream_are_those_of_the_answer(echo):
    body = {"messages": messages("é!"), "logprobs": True, "top_logprobs": 1}
    whole = echo.post("/v1/chat/completions", body).json()["choices"][0]["logprobs"]["content"]
    events = echo.events("/v1/chat/completions", {**body, "stream": True})
    streamed = [e["choices"][0]["logprobs"] for e in events if e["choices"][0]["logprobs"]]
    assert [entry for report in streamed for entry in report["content"]] == whole
    assert [(entry["token"], entry["bytes"]) for entry in whole[:2]] == [("�", [0xC3]), ("�", [0xA9])]
    assert bytes(byte for entry in whole[:-1] for byte in entry["bytes"]).decode() == "é!"


def test_a_completions_log_probabilities_name_parts_of_characters_by_their_bytes(echo):
    body = {"prompt": ["a猫b", "é"], "logprobs": 1, "max_tokens": 5}
    whole = echo.post("/v1/completions", body).json()["choices"][0]["logprobs"]
    assert whole["tokens"] == ["a", "bytes:\\xe7", "bytes:\\x8c", "bytes:\\xab", "b"]
    assert whole["text_offset"] == [0, 1, 1, 1, 2]
    events = echo.events("/v1/completions", {**body, "stream": True})
    streamed = [event["choices"][0]["logprobs"] for event in events if event["choices"][0]["index"] == 0]
    assert [offset for report in streamed for offset in report["text_offset"]] == whole["text_offset"]


def test_silence_is_filled_with_comments(serve):
    running = serve(slow_server(0.2, ping_interval=0.05))
    text = running.post("/v1/completions", {"prompt": "ab", "stream": True}).text
    assert text.count(": ping\n\n") >= 3
    assert text.endswith("data: [DONE]\n\n")


def test_an_error_in_mid_stream_is_an_event_and_the_stream_ends_properly(serve):
    running = serve(broken_server(2, RuntimeError("boom")))
    text = running.post("/v1/chat/completions", {"messages": messages("abcd"), "stream": True}).text
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    assert contents(events[:-1]) == "ab"
    assert events[-1]["error"]["code"] == 500
    assert "boom" not in text  # the inside is for the log
    assert text.endswith("data: [DONE]\n\n")


def test_an_error_without_a_stream_is_a_status(serve):
    running = serve(broken_server(2, RuntimeError("boom")))
    assert running.post("/inference", {"input": "abcd"}).status_code == 500


def test_a_dead_engine_is_503_and_not_500(serve):
    running = serve(broken_server(1, EngineDeadError("gone")))
    response = running.post("/inference", {"input": "abcd"})
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_takes_too_long_is_ended_with_an_error(serve, stream):
    running = serve(slow_server(0.1, request_timeout=0.25))
    response = running.post("/v1/completions", {"prompt": "abcdefgh", "stream": stream})
    assert response.status_code == (200 if stream else 504)
    assert '"code":504' in response.text
    running.wait_until_idle()


# The Zhipu protocol


def zhipu_events(running, **body):
    text = running.post("/embeddings/QuestionAnswer?stream=true", body).text
    assert text.endswith("\n\n")
    return [block.split("\n") for block in text[:-2].split("\n\n")]


def test_a_zhipu_stream_has_add_events_and_finishes_with_its_meta(echo):
    events = zhipu_events(echo, prompt=messages("你好"), request_id="r1")
    task = events[0][1]
    assert events[:2] == [["event:add", task, "data: 你"], ["event:add", task, "data: 好"]]
    assert events[2][:3] == ["event:finish", task, "data: "]
    meta = json.loads(events[2][3].removeprefix("meta:"))
    assert meta == {
        "request_id": "r1",
        "task_id": task.removeprefix("id:"),
        "task_status": "SUCCESS",
        "usage": {"prompt_tokens": 6, "completion_tokens": 7, "total_tokens": 13},
    }


def test_without_increments_each_event_has_the_whole_text_so_far(echo):
    events = zhipu_events(echo, prompt=messages("abc"), incremental=False)
    assert [event[2] for event in events] == ["data: a", "data: ab", "data: abc", "data: "]


def test_without_increments_a_long_answer_is_not_sent_again_with_each_token(serve):
    """A text of 3,000 characters would be 4.5 million, and one of 30,000 a hundred times as many."""
    running = serve(engine="echo", max_length=6500)
    text = "".join(chr(97 + place % 26) for place in range(3000))
    events = zhipu_events(running, prompt=messages(text), incremental=False)
    texts = [event[2].removeprefix("data: ") for event in events if event[0] == "event:add"]
    assert texts[:60] == [text[: place + 1] for place in range(60)]
    assert texts[-1] == text
    assert sum(map(len, texts)) < 100 * len(text)


def test_without_increments_what_was_made_before_a_failure_is_there(serve):
    running = serve(broken_server(500, EngineDeadError("gone"), max_length=2000))
    events = zhipu_events(running, prompt=messages("x" * 600), incremental=False)
    assert [event[0] for event in events[-2:]] == ["event:add", "event:error"]
    assert events[-2][2] == f"data: {'x' * 500}"


def test_blanks_and_line_ends_survive_the_zhipu_stream(echo):
    events = zhipu_events(echo, prompt=messages(" a\n\nb"))
    adds = [event for event in events if event[0] == "event:add"]
    assert "".join("\n".join(line[6:] for line in event[2:]) for event in adds) == " a\n\nb"


def test_the_stream_may_be_asked_for_in_the_body_too(echo):
    response = echo.post("/embeddings/QuestionAnswer", {"prompt": messages("a"), "stream": True})
    assert response.text.startswith("event:add\n")


def test_without_a_stream_zhipu_answers_json(echo):
    answer = echo.post("/embeddings/QuestionAnswer", {"prompt": messages("你好"), "invoke_method": "async"}).json()
    assert answer["data"]["choices"] == [{"role": "assistant", "content": "你好"}]


def test_an_error_in_a_zhipu_stream_is_an_error_event(serve):
    running = serve(broken_server(1, RuntimeError("boom")))
    assert [event[0] for event in zhipu_events(running, prompt=messages("ab"))] == ["event:add", "event:error"]


def test_a_zhipu_stream_that_takes_too_long_is_interrupted(serve):
    running = serve(slow_server(0.1, request_timeout=0.15))
    assert zhipu_events(running, prompt=messages("abcd"))[-1][0] == "event:interrupted"


# The event loop


def test_health_is_answered_between_the_tokens_of_a_generation(tiny_server):
    async def scenario():
        import httpx

        async with httpx.AsyncClient(base_url=tiny_server.url, timeout=180) as client:
            body = {"prompt": "a", "max_tokens": 400, "ignore_eos": True, "temperature": 0}
            work = [asyncio.create_task(client.post("/v1/completions", json=body)) for _ in range(4)]
            answered = 0
            while not work[0].done():
                assert (await client.get("/health")).status_code == 200
                answered += 1
            assert all(response.status_code == 200 for response in await asyncio.gather(*work))
            return answered

    assert asyncio.run(scenario()) > 10
