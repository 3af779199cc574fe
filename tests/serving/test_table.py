"""A table of requests, good and bad, with the status and the shape of each answer, on both engines."""

import json

import pytest

HI = [{"role": "user", "content": "你好"}]
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
QA = "/embeddings/QuestionAnswer"


def chat(**more):
    return {"messages": HI, "max_tokens": 4, **more}


def text(**more):
    return {"prompt": "The quick", "max_tokens": 4, **more}


def qa(**more):
    return {"prompt": HI, "max_tokens": 4, **more}


def completion(answer, n=1):
    assert answer["object"] == "text_completion"
    assert [choice["index"] for choice in answer["choices"]] == list(range(n))
    for choice in answer["choices"]:
        assert set(choice) == {"index", "text", "logprobs", "finish_reason", "stop_reason"}
        assert choice["finish_reason"] in {"stop", "length"}
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def chat_completion(answer, n=1):
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    assert [choice["index"] for choice in answer["choices"]] == list(range(n))
    for choice in answer["choices"]:
        assert choice["message"]["role"] == "assistant"
        assert isinstance(choice["message"]["content"], str)
    assert all(isinstance(value, int) for value in answer["usage"].values())


def two(answer):
    chat_completion(answer, 2)


def four(answer):
    completion(answer, 4)


def with_logprobs(answer):
    entry = answer["choices"][0]["logprobs"]["content"][0]
    assert set(entry) == {"token", "logprob", "bytes", "top_logprobs"}
    assert len(entry["top_logprobs"]) == 2
    assert entry["logprob"] <= entry["top_logprobs"][0]["logprob"] <= 0


def with_text_logprobs(answer):
    report = answer["choices"][0]["logprobs"]
    assert len({len(report[key]) for key in ("tokens", "token_logprobs", "top_logprobs", "text_offset")}) == 1


def four_strings(answer):
    assert set(answer) == {"output", "tokenLength", "elapsedTime", "elaspedTime", "tokenPerSec"}
    assert all(isinstance(value, str) for value in answer.values())
    assert float(answer["tokenPerSec"]) > 0


def string_usage(answer):
    assert set(answer["usage"]) == {
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "elasped_time",
        "token_per_sec",
    }
    assert all(isinstance(value, str) for value in answer["usage"].values())


def zhipu(answer):
    assert (answer["code"], answer["success"]) == (200, True)
    assert answer["data"]["task_status"] == "SUCCESS"
    assert answer["data"]["choices"][0]["role"] == "assistant"
    assert answer["data"]["usage"]["total_tokens"] > 4


def echoed(answer):
    assert answer["choices"][0]["text"].startswith("The quick")


def vectors(answer):
    assert [entry["index"] for entry in answer["data"]] == [0, 1]
    assert sum(x * x for x in answer["data"][0]["embedding"]) == pytest.approx(1, abs=1e-4)


def base64_vector(answer):
    assert len(answer["data"][0]["embedding"]) == 344  # 64 floats in base64


def tokens(answer):
    assert answer["count"] == len(answer["tokens"]) > 0
    assert answer["max_model_len"] == 512


def strings(answer):
    assert "".join(answer["token_strs"]) == "The quick"


def one_token(answer):
    assert answer["usage"]["completion_tokens"] == 1


def cards(answer):
    assert [card["id"] for card in answer["data"]] == ["tiny"]
    assert answer["data"][0]["max_model_len"] == 512


def full_context(answer):
    assert answer["usage"]["total_tokens"] == 512


def anything(answer):
    assert isinstance(answer, dict)


GOOD = [
    ("GET", "/health", None, anything),
    ("GET", "/ready", None, anything),
    ("GET", "/v1/models", None, cards),
    ("GET", "/openai/v1/models", None, cards),
    ("GET", "/v1/models/tiny", None, anything),
    ("POST", CHAT, chat(), chat_completion),
    ("POST", CHAT, chat(model="tiny"), chat_completion),
    ("POST", "/openai/v1/chat/completions", chat(model="tiny", stream=False), chat_completion),
    ("POST", CHAT, chat(temperature=0), chat_completion),
    ("POST", CHAT, chat(temperature=0.7, top_p=0.9, top_k=10, min_p=0.01), chat_completion),
    ("POST", CHAT, chat(top_k=-1, top_p=1), chat_completion),
    ("POST", CHAT, {"messages": HI, "max_completion_tokens": 1}, one_token),
    ("POST", CHAT, chat(max_completion_tokens=1), one_token),
    ("POST", CHAT, chat(seed=-3), chat_completion),
    ("POST", CHAT, chat(n=2, seed=1), two),
    ("POST", CHAT, chat(stop="x"), chat_completion),
    ("POST", CHAT, chat(stop=["x", "你"]), chat_completion),
    ("POST", CHAT, chat(presence_penalty=1.5, frequency_penalty=-0.5), chat_completion),
    ("POST", CHAT, chat(repetition_penalty=1.2), chat_completion),
    ("POST", CHAT, chat(logit_bias={"17": 3.5}), chat_completion),
    ("POST", CHAT, chat(logprobs=True, top_logprobs=2, temperature=0), with_logprobs),
    ("POST", CHAT, chat(response_format={"type": "text"}), chat_completion),
    ("POST", CHAT, chat(tools=[], tool_choice="none", user="someone"), chat_completion),
    ("POST", CHAT, {**chat(), "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}, anything),
    ("POST", CHAT, {**chat(), "messages": [{"role": "developer", "content": "be brief"}, *HI]}, chat_completion),
    ("POST", CHAT, chat(ignore_eos=True, max_tokens=None), full_context),
    ("POST", TEXT, text(), completion),
    ("POST", "/openai/v1/completions", text(model="tiny", stream=False, max_tokens=30), completion),
    ("POST", TEXT, text(prompt=[5, 6, 7]), completion),
    ("POST", TEXT, text(prompt=["a", "b"], n=2), four),
    ("POST", TEXT, text(prompt=[[5, 6], [7]], n=2, best_of=2), four),
    ("POST", TEXT, text(logprobs=3), with_text_logprobs),
    ("POST", TEXT, text(logprobs=0, temperature=0), with_text_logprobs),
    ("POST", TEXT, text(echo=True), echoed),
    ("POST", TEXT, {"prompt": "The quick"}, completion),
    ("POST", TEXT, text(tools=[], suffix=""), completion),
    ("POST", "/inference", {"input": "你好"}, four_strings),
    ("POST", "/inference", {"input": "你好", "max_tokens": 3, "temperature": 0}, four_strings),
    ("POST", "/chat/completions", {"model": "serviceName", "messages": HI}, string_usage),
    ("POST", QA, qa(temperature=0.95, secretKey="dasdada", invoke_method="async", incremental=False), zhipu),
    ("POST", QA, qa(request_id="r-1", top_p=0.5, return_type="text"), zhipu),
    ("POST", QA, qa(prompt="你好"), zhipu),
    ("POST", "/v1/embeddings", {"input": ["cat", "dog"]}, vectors),
    ("POST", "/v1/embeddings", {"input": [[5, 6], [7]], "model": "tiny", "dimensions": 64}, vectors),
    ("POST", "/openai/v1/embeddings", {"input": "cat", "encoding_format": "base64"}, base64_vector),
    ("POST", "/tokenize", {"prompt": "The quick"}, tokens),
    ("POST", "/tokenize", {"messages": HI, "model": "tiny"}, tokens),
    ("POST", "/tokenize", {"prompt": "The quick", "return_token_strs": True}, strings),
    ("POST", "/detokenize", {"tokens": [5, 6]}, anything),
]

BAD = [
    ("GET", "/nowhere", None, 404),
    ("GET", "/v1/chat/completions", None, 405),
    ("POST", "/health", {}, 405),
    ("GET", "/v1/models/other", None, 404),
    ("POST", CHAT, chat(model="other"), 404),
    ("POST", TEXT, text(model="other"), 404),
    ("POST", "/v1/embeddings", {"input": "a", "model": "other"}, 404),
    ("POST", CHAT, b'{"messages": [', 400),
    ("POST", CHAT, b"", 400),
    ("POST", CHAT, b"[1, 2]", 400),
    ("POST", CHAT, b'{"messages": "\xff"}', 400),
    ("POST", CHAT, {}, 400),
    ("POST", CHAT, {"messages": []}, 400),
    ("POST", CHAT, {"messages": [{"role": "robot", "content": "x"}]}, 400),
    ("POST", CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, 400),
    ("POST", CHAT, chat(temperature=-0.1), 400),
    ("POST", CHAT, chat(temperature="hot"), 400),
    ("POST", CHAT, chat(top_p=0), 400),
    ("POST", CHAT, chat(top_p=1.1), 400),
    ("POST", CHAT, chat(top_k=-2), 400),
    ("POST", CHAT, chat(max_tokens=0), 400),
    ("POST", CHAT, chat(max_tokens=9999), 400),
    ("POST", CHAT, chat(max_completion_tokens=-1), 400),
    ("POST", CHAT, chat(n=0), 400),
    ("POST", CHAT, chat(n=129), 400),
    ("POST", CHAT, chat(stop=""), 400),
    ("POST", CHAT, chat(stop=["x"] * 17), 400),
    ("POST", CHAT, chat(seed=1.5), 400),
    ("POST", CHAT, chat(presence_penalty=2.1), 400),
    ("POST", CHAT, chat(frequency_penalty="1"), 400),
    ("POST", CHAT, chat(repetition_penalty=0), 400),
    ("POST", CHAT, chat(logit_bias={"cat": 1}), 400),
    ("POST", CHAT, chat(logit_bias={"400": 1}), 400),
    ("POST", CHAT, chat(logprobs=True, top_logprobs=21), 400),
    ("POST", CHAT, chat(top_logprobs=2), 400),
    ("POST", CHAT, chat(stream_options={"include_usage": True}), 400),
    ("POST", CHAT, chat(tools=[{"type": "function"}]), 400),
    ("POST", CHAT, chat(tool_choice="required"), 400),
    ("POST", CHAT, chat(response_format={"type": "json_object"}), 400),
    ("POST", CHAT, chat(response_format={"type": "json_schema", "json_schema": {}}), 400),
    ("POST", CHAT, chat(min_tokens=3), 400),
    ("POST", CHAT, {"messages": [{"role": "user", "content": "long " * 600}]}, 400),
    ("POST", CHAT, {"messages": [{"role": "user", "content": "x" * 100_000}]}, 400),
    ("POST", TEXT, {}, 400),
    ("POST", TEXT, text(prompt=""), 400),
    ("POST", TEXT, text(prompt=[]), 400),
    ("POST", TEXT, text(prompt=[400]), 400),
    ("POST", TEXT, text(prompt=[-1]), 400),
    ("POST", TEXT, text(prompt=[1] * 512), 400),
    ("POST", TEXT, text(logprobs=99), 400),
    ("POST", TEXT, text(echo=True, logprobs=1), 400),
    ("POST", TEXT, text(best_of=3), 400),
    ("POST", TEXT, text(suffix="end"), 400),
    ("POST", TEXT, text(tools=[{"type": "function"}]), 400),
    ("POST", "/inference", {"inputs": "x"}, 400),
    ("POST", "/inference", {"input": ""}, 400),
    ("POST", "/inference", {"input": 7}, 400),
    ("POST", "/inference", b'{"input": "x",,}', 400),
    ("POST", "/inference", b"[" * 100_000, 400),
    ("POST", QA, qa(prompt=[]), 400),
    ("POST", QA, qa(prompt=[{"role": "user"}]), 400),
    ("POST", QA, qa(temperature=1.5), 400),
    ("POST", QA, qa(ref={"enable": True}), 400),
    ("POST", QA, qa(request_id="a\nb"), 400),
    ("POST", "/v1/embeddings", {"input": []}, 400),
    ("POST", "/v1/embeddings", {"input": [9999]}, 400),
    ("POST", "/v1/embeddings", {"input": "a", "dimensions": 3}, 400),
    ("POST", "/v1/embeddings", {"input": "long " * 600}, 400),
    ("POST", "/tokenize", {}, 400),
    ("POST", "/tokenize", {"prompt": "a", "messages": HI}, 400),
    ("POST", "/detokenize", {"tokens": [9999]}, 400),
    ("POST", "/detokenize", {"tokens": "a"}, 400),
    ("POST", "/detokenize", {"tokens": [5] * 513}, 400),
    ("POST", TEXT, text(prompt=["a"] * 128, n=128), 400),
    ("POST", CHAT, b" " * (5 * 2**20), 413),
]


def name(case):
    method, path, body, expected = case
    shown = body[:20].decode(errors="replace") if isinstance(body, bytes) else json.dumps(body)
    return f"{method} {path} {shown}"[:110] if callable(expected) else f"{expected} {method} {path} {shown}"[:110]


def send(running, method, path, body):
    if isinstance(body, bytes):
        return running.client.request(method, path, content=body, headers={"Content-Type": "application/json"})
    return running.client.request(method, path, json=body)


@pytest.mark.parametrize("case", GOOD, ids=name)
def test_a_good_request_is_answered_in_its_shape(tiny_server, case):
    method, path, body, check = case
    response = send(tiny_server, method, path, body)
    assert response.status_code == 200, response.text
    check(response.json())


@pytest.mark.parametrize("case", BAD, ids=name)
def test_a_bad_request_gets_its_status_and_an_error_in_one_shape(tiny_server, case):
    method, path, body, status = case
    response = send(tiny_server, method, path, body)
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == status
    assert error["message"]


def test_every_slot_is_free_after_the_table(tiny_server):
    tiny_server.wait_until_idle()


def test_an_overflow_of_the_context_is_refused_with_the_counts(tiny_server):
    error = tiny_server.post(TEXT, text(prompt=[5] * 500, max_tokens=20)).json()["error"]
    assert "500" in error["message"]
    assert "20" in error["message"]
    assert "512" in error["message"]


def test_a_refused_parameter_is_named(tiny_server):
    assert tiny_server.post(CHAT, chat(min_tokens=3)).json()["error"]["param"] == "min_tokens"


def test_another_method_is_told_which_one_is_allowed(tiny_server):
    assert tiny_server.client.get("/inference").headers["allow"] == "POST"
