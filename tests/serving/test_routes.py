"""The documented calls, byte for byte, and what the console, the gateway and the quick start rely on."""

import logging

import pytest
from llmserving.api.body import parse_forgiving
from llmserving.engines.echo import EchoEngine
from llmserving.server import assemble
from llmserving.settings import from_mapping
from llmserving.tokenizer import ByteTokenizer

JSON = {"Content-Type": "application/json; charset=utf-8"}
DOCUMENTED_INFERENCE = '{\n  "input": "你好",\n}'.encode()
DOCUMENTED_QUESTION = """{
  "temperature": 0.95,
  "secretKey": "dasdada",
  "invoke_method": "async",
  "prompt": [
    {
      "content": "你好",
      "role": "user"
    }
  ],
  "incremental": false
}""".encode()
QUICK_START_CHAT = (
    '{"model": "qwen15-14b", "messages": [{"role": "user","content": "我的孩子数学不太行，怎么办怎么办"}], '
    '"stream":false }'
).encode()
QUICK_START_TEXT = (
    '{"model": "llama2", "prompt": "你好! 我们用中文打个招呼", "stream":false, "max_tokens": 30 }'.encode()
)


def test_the_documented_inference_call_is_answered_its_comma_included(echo):
    response = echo.client.post("/inference", content=DOCUMENTED_INFERENCE, headers=JSON)
    answer = response.json()
    assert answer["output"] == "你好"
    assert answer["tokenLength"] == "13"
    assert answer["elapsedTime"] == answer["elaspedTime"]


def test_the_documented_question_is_answered_with_a_stream(echo):
    path = "/embeddings/QuestionAnswer?stream=true"
    response = echo.client.post(path, content=DOCUMENTED_QUESTION, headers=JSON)
    assert response.text.count("event:add") == 2
    assert "data: 你好\n" in response.text
    assert "event:finish" in response.text


@pytest.mark.parametrize(
    ("name", "path", "body"),
    [
        ("qwen15-14b", "/openai/v1/chat/completions", QUICK_START_CHAT),
        ("llama2", "/openai/v1/completions", QUICK_START_TEXT),
        ("llama2", "/v1/completions", QUICK_START_TEXT),
    ],
)
def test_the_calls_of_the_quick_start_are_answered(serve, name, path, body):
    running = serve(engine="echo", model_name=name)
    response = running.client.post(path, content=body, headers={"content-type": "application/json"})
    assert response.json()["model"] == name
    assert response.json()["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"input": "a"}', "a"),
        (b'{"input": "a",}', "a"),
        (b'{"input": "a" , \n }', "a"),
        (b'{"input": "a,}",}', "a,}"),
        (b'{"input": "\\",}",}', '",}'),
    ],
)
def test_a_comma_too_many_is_forgiven_and_strings_are_left_alone(body, text):
    assert parse_forgiving(body)["input"] == text


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"input": "a",,}', b"\xff", b'{"input": "a"} x', b"7"])
def test_what_is_no_json_at_all_is_refused(echo, body):
    response = echo.client.post("/inference", content=body, headers=JSON)
    assert response.status_code == 400
    assert "the body" in response.json()["error"]["message"]


def test_the_gateway_may_call_the_model_what_it_likes(echo):
    messages = [{"role": "user", "content": "hi"}]
    answer = echo.post("/chat/completions", {"model": "serviceName", "messages": messages}).json()
    assert answer["choices"][0]["message"]["content"] == "hi"
    assert answer["usage"]["completion_tokens"] == "3"


def test_the_gateways_stream_has_its_usage_in_strings_too(echo):
    messages = [{"role": "user", "content": "hi"}]
    body = {"messages": messages, "stream": True, "stream_options": {"include_usage": True}}
    assert echo.events("/chat/completions", body)[-1]["usage"]["total_tokens"] == "5"


def question(running, **body):
    return running.post("/embeddings/QuestionAnswer", {"prompt": "hi", **body})


@pytest.mark.parametrize(
    ("advised", "said", "sampled"),
    [
        ({}, {}, (0.95, 0.7)),
        ({}, {"temperature": 0.5}, (0.5, 0.7)),
        ({"repetition_penalty": 1.1}, {}, (0.95, 0.7)),
        ({"temperature": 0.0}, {}, (0.0, 1.0)),
        ({"temperature": 0.0}, {"temperature": 0.95}, (0.95, 1.0)),
        ({"temperature": 0.6, "top_p": 0.9}, {}, (0.6, 0.9)),
        ({"top_k": 20}, {"top_p": 0.5}, (1.0, 0.5)),
    ],
    ids=str,
)
def test_a_question_that_says_nothing_of_sampling_gets_the_authors_advice_and_zhipus_where_there_is_none(
    serve, advised, said, sampled
):
    asked = []

    class Listening(EchoEngine):
        def submit(self, prompt, sampling):
            asked.append((sampling.temperature, sampling.top_p))
            return super().submit(prompt, sampling)

    settings = from_mapping({"engine": "echo"})
    assert question(serve(assemble(settings, ByteTokenizer(), Listening(), defaults=advised)), **said).is_success
    assert asked[-1] == sampled


@pytest.mark.parametrize(("said", "sampled"), [(-1, 0), (0, 0), (7, 7), (2**31, 2**31 - 1), (10**400, 2**31 - 1)])
def test_a_top_k_beyond_every_vocabulary_is_one_that_an_engine_can_hold(serve, said, sampled):
    asked = []

    class Listening(EchoEngine):
        def submit(self, prompt, sampling):
            asked.append(sampling.top_k)
            return super().submit(prompt, sampling)

    settings = from_mapping({"engine": "echo"})
    running = serve(assemble(settings, ByteTokenizer(), Listening()))
    assert running.post("/v1/completions", {"prompt": "hi", "top_k": said}).is_success
    assert asked[-1] == sampled


def test_a_configured_secret_key_is_asked_for(serve):
    running = serve(engine="echo", secret_key="dasdada")
    assert question(running, secretKey="dasdada").status_code == 200
    for wrong in ({}, {"secretKey": "dasdad"}, {"secretKey": "密钥"}):
        response = question(running, **wrong)
        assert (response.status_code, response.json()["error"]["type"]) == (401, "AuthenticationError")


def test_any_secret_key_will_do_where_none_is_configured(echo):
    assert question(echo, secretKey="whatever").status_code == 200


def test_the_secret_key_is_in_no_log_and_no_error(serve, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    running = serve(engine="echo", secret_key="right-key")
    question(running, secretKey="wrong-key")
    bad = question(running, secretKey="wrong-key", temperature="x")
    shown = caplog.text + "".join(capfd.readouterr()) + bad.text
    assert "wrong-key" not in shown
    assert "right-key" not in shown


def test_a_text_that_could_never_fit_is_refused_before_it_is_encoded(echo):
    response = echo.post("/v1/completions", {"prompt": "x" * 2_000_000})
    assert response.status_code == 400
    assert "2000000" in response.json()["error"]["message"]
