"""What changes no text changes no text: nulls, history as clients send it back, parameters of other servers."""

import json
import logging
import random
import threading
from dataclasses import replace

import pytest
from conftest import listening
from llmserving.api import refused, requests
from llmserving.api.body import parse
from llmserving.engines.base import FormatError
from llmserving.engines.echo import EchoEngine
from llmserving.server import assemble, load
from llmserving.settings import from_mapping
from llmserving.tokenizer import ByteTokenizer
from openai.types.chat import ChatCompletionMessage
from pydantic import ValidationError

CHAT, TEXT, QA = "/v1/chat/completions", "/v1/completions", "/embeddings/QuestionAnswer"
HI = {"role": "user", "content": "你好"}
TEMPLATE = (
    "{% if reasoning_effort %}<|system|>effort {{ reasoning_effort }}</s>{% endif %}"
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}"
    "{% if message.reasoning_content %}({{ message.reasoning_content }}){% endif %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% if enable_thinking is false %}</s>{% endif %}{% endif %}"
)


@pytest.fixture(scope="module")
def model(base):
    """Serve the tiny model, whose template knows roles and contents only."""
    with listening(load(from_mapping({"model_dir": base, "model_name": "tiny"}))) as running:
        yield running


@pytest.fixture(scope="module")
def thinking(base, tmp_path_factory):
    """Serve the tiny model with a template that reads reasoning_effort, enable_thinking and reasoning_content."""
    template = tmp_path_factory.mktemp("template") / "thinking.jinja"
    template.write_text(TEMPLATE)
    with listening(load(from_mapping({"model_dir": base, "chat_template": template}))) as running:
        yield running


def said(running, path, body):
    """Return what an answer says, without what differs from call to call."""
    response = running.post(path, body)
    assert response.status_code == 200, response.text
    if response.headers["content-type"].startswith("text/event-stream"):
        lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: {")]
        return "".join(one["choices"][0]["delta"].get("content") or "" for one in map(json.loads, lines))
    answer = response.json()
    if path == QA:
        return answer["data"]["choices"], answer["data"]["usage"]
    if path == "/inference":
        return answer["output"], answer["tokenLength"]
    return {name: value for name, value in answer.items() if name not in {"id", "created"}}


def chat(**more):
    return CHAT, {"messages": [HI], "temperature": 0, "max_tokens": 6}, more


def text(**more):
    return TEXT, {"prompt": "The quick", "temperature": 0, "max_tokens": 6}, more


def qa(**more):
    return QA, {"prompt": [HI], "max_tokens": 6, "top_p": 1e-6}, more


def inference(**more):
    return "/inference", {"input": "你好", "temperature": 0, "max_tokens": 6}, more


def history(**more):
    """A conversation whose second message has something more."""
    said_before = {"role": "assistant", "content": "ok"}
    body = {"messages": [HI, said_before, HI], "temperature": 0, "max_tokens": 6}
    return CHAT, body, {"messages": [HI, {**said_before, **more}, HI]}


def parts(**more):
    part = {"type": "text", "text": "你好"}
    return CHAT, chat()[1], {"messages": [{"role": "user", "content": [{**part, **more}]}]}


def stream(**more):
    options = {"stream": True, "stream_options": {"include_usage": False}}
    return CHAT, {**chat()[1], **options}, {"stream_options": {"include_usage": False, **more}}


AS_THE_CLIENT_HAS_IT = ChatCompletionMessage(role="assistant", content="ok").model_dump()
SAME = {
    "history: refusal": history(refusal=None),
    "history: audio": history(audio=None),
    "history: function_call": history(function_call=None),
    "history: tool_calls": history(tool_calls=None),
    "history: no tool_calls": history(tool_calls=[]),
    "history: annotations null": history(annotations=None),
    "history: annotations": history(annotations=[{"type": "url_citation"}]),
    "history: reasoning_content": history(reasoning_content="let me see"),
    "history: reasoning_content null": history(reasoning_content=None),
    "history: id": history(id="chatcmpl-1"),
    "history: name": history(name=None),
    "history: as the official client dumps it": history(**AS_THE_CLIENT_HAS_IT),
    "history: metadata of another client": history(metadata={"a": [None]}, status="completed", parsed=None),
    "null: echo": text(echo=None),
    "null: ignore_eos": chat(ignore_eos=None),
    "null: add_generation_prompt": chat(add_generation_prompt=None),
    "null: continue_final_message": chat(continue_final_message=None),
    "null: functions": chat(functions=None, function_call=None),
    "null: prediction": chat(prediction=None),
    "null: stop": chat(stop=None),
    "null: stream and its options": chat(stream=None, stream_options=None),
    "null: an option of a stream": stream(include_usage=None),
    "null: tools": chat(tools=None, tool_choice=None, parallel_tool_calls=None),
    "null: response_format": chat(response_format=None),
    "null: inside response_format": chat(response_format={"type": "text", "json_schema": None}),
    "null: chat_template_kwargs": chat(chat_template_kwargs=None),
    "null: an option of the template": chat(chat_template_kwargs={"enable_thinking": None}),
    "null: a bias": chat(logit_bias={"5": None}),
    "null: reasoning_effort": chat(reasoning_effort=None),
    "null: name and what nobody knows": parts(cache_control=None, annotations=None),
    "null: incremental": qa(incremental=None, stream=None, request_id=None, ref=None),
    "null: of /inference": inference(stop=None, seed=None, top_p=None),
    "ignored: prompt_cache_key": chat(prompt_cache_key="k", prompt_cache_retention="24h"),
    "ignored: safety_identifier": chat(safety_identifier="someone"),
    "ignored: verbosity": chat(verbosity="low"),
    "ignored: modalities": chat(modalities=["text"]),
    "ignored: store": chat(store=True),
    "ignored: include_obfuscation": stream(include_obfuscation=True),
    "ignored: parallel_tool_calls": chat(parallel_tool_calls=True),
    "ignored: tools that may not be called": chat(tools=[{"type": "function"}], tool_choice="none"),
    "ignored: metadata": chat(metadata={"a": "b"}),
    "ignored: user": chat(user="someone"),
    "ignored: service_tier": chat(service_tier="flex"),
    "ignored: prediction": chat(prediction={"type": "content", "content": "hello"}),
    "ignored: cache_control": parts(cache_control={"type": "ephemeral"}),
    "ignored: reasoning_effort, which this template does not read": chat(reasoning_effort="high"),
    "ignored: an option that this template does not read": chat(chat_template_kwargs={"enable_thinking": False}),
    "ignored: what nobody knows": chat(no_such_parameter={"a": [1, {"b": None}]}),
    "the same: max_tokens": chat(max_tokens=6.0),
    "the same: other numbers": chat(n=1.0, top_k=-1.0, seed=3.0),
    "the same: suffix": text(suffix=""),
    "the same: best_of": text(best_of=1, logprobs=None),
    "the same: a message in parts": parts(),
    "the same: neutral values": chat(min_tokens=0, use_beam_search=False, skip_special_tokens=True),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME.values(), ids=SAME)
def test_the_answer_is_the_same_with_it_and_without(model, case):
    path, body, more = case
    assert said(model, path, {**body, **more}) == said(model, path, body)


@pytest.mark.parametrize(
    ("path", "body", "more"),
    [
        ("/v1/embeddings", {"input": "cat"}, {"encoding_format": None, "dimensions": None, "user": None}),
        ("/tokenize", {"prompt": "cat"}, {"messages": None, "add_special_tokens": None, "return_token_strs": None}),
        ("/tokenize", {"messages": [HI]}, {"prompt": None, "add_generation_prompt": None, "temperature": 0.5}),
        ("/detokenize", {"tokens": [5, 6]}, {"model": None, "no_such_parameter": 1}),
    ],
)
def test_the_other_routes_take_null_for_absent_too(model, path, body, more):
    assert said(model, path, {**body, **more}) == said(model, path, body)


def tokens(running, **more):
    return running.post("/tokenize", {"messages": [HI], **more}).json()["tokens"]


def test_reasoning_effort_goes_to_a_template_that_reads_it(thinking):
    ids = tokens(thinking, reasoning_effort="high")
    assert "effort high" in thinking.post("/detokenize", {"tokens": ids}).json()["prompt"]
    with_it, without = (
        thinking.post(CHAT, {"messages": [HI], "max_tokens": 1, **more}).json()["usage"]["prompt_tokens"]
        for more in ({"reasoning_effort": "high"}, {})
    )
    assert with_it == len(ids) > without


def test_an_option_goes_to_a_template_that_reads_it(thinking):
    assert tokens(thinking, chat_template_kwargs={"enable_thinking": False}) == [*tokens(thinking), 2]
    assert tokens(thinking, chat_template_kwargs={"enable_thinking": True, "other": 1}) == tokens(thinking)
    assert thinking.server.tokenizer.template_options == {"reasoning_effort", "enable_thinking"}


def test_reasoning_that_comes_back_goes_to_a_template_that_reads_it(thinking):
    before = {"role": "assistant", "content": "ok", "reasoning_content": "let me see"}
    ids = tokens(thinking, messages=[HI, before, HI])
    assert "ok(let me see)" in thinking.post("/detokenize", {"tokens": ids}).json()["prompt"]


def test_a_refusal_that_comes_back_is_what_the_assistant_said(model):
    refusal = {"role": "assistant", "content": None, "refusal": "ok"}
    in_parts = {"role": "assistant", "content": [{"type": "refusal", "refusal": "ok"}]}
    plain = {"role": "assistant", "content": "ok"}
    assert tokens(model, messages=[HI, refusal, HI]) == tokens(model, messages=[HI, plain, HI])
    assert tokens(model, messages=[HI, in_parts, HI]) == tokens(model, messages=[HI, plain, HI])


def test_an_answer_without_text_may_come_back(model):
    silent = {**AS_THE_CLIENT_HAS_IT, "content": None}
    empty = {"role": "assistant", "content": ""}
    assert tokens(model, messages=[HI, silent, HI]) == tokens(model, messages=[HI, empty, HI])


def test_what_is_ignored_is_named_in_one_line_for_the_log(echo, caplog):
    caplog.set_level(logging.DEBUG, "llmserving.api")
    message = {**HI, "annotations": [], "cache\n": 1}
    body = {"messages": [message], "store": True, "no_such_parameter": 1, "stop": None}
    assert echo.post(CHAT, body).status_code == 200
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("llmserving.api")]
    for name in ("store", "no_such_parameter", "messages.0.annotations", "messages.0.'cache\\n'"):
        assert name in line
    assert "stop" not in line


def schema(value):
    return {"type": "json_schema", "json_schema": {"schema": value}}


# The body, the parameter that the error names, and what it has to say.
REFUSED = [
    (chat(tools=[{"type": "function"}]), "tools", "tools: tools are not served here: describe them in a message"),
    (chat(tools=[{}], tool_choice="required"), "tool_choice", "'none' or 'auto' is accepted, not \"required\""),
    (chat(functions=[{"name": "f"}]), "functions", "tools are not served here"),
    (chat(modalities=["text", "audio"]), "modalities", "modalities: this server takes and gives text only"),
    (chat(audio={"voice": "alloy"}), "audio", "text only"),
    (chat(web_search_options={}), "web_search_options", "put what was found into a message"),
    (chat(chat_template="{{ 1 }}"), "chat_template", "SERVING_CHAT_TEMPLATE"),
    (chat(enable_thinking=False), "enable_thinking", "goes into chat_template_kwargs"),
    (chat(min_tokens=3), "min_tokens", "ignore_eos lets it run to max_tokens"),
    (chat(do_sample=False), "do_sample", "temperature: 0"),
    (chat(guided_json={}), "guided_json", "response_format"),
    (chat(echo=True), "echo", "only /v1/completions repeats its prompt"),
    (chat(response_format={"type": "json_object"}), "response_format", "only 'text'; vLLM's can"),
    (chat(response_format={"type": ["x"]}), "response_format", "text, json_object, json_schema"),
    (chat(response_format={"type": "json_schema"}), "response_format", "a json_schema comes with its schema"),
    (chat(response_format={"type": "json_schema", "json_schema": []}), "response_format", "comes with its schema"),
    (chat(response_format=schema(True)), "response_format", "comes with its schema, an object"),
    (chat(response_format=schema(7)), "response_format", "comes with its schema, an object"),
    (chat(response_format=schema(None)), "response_format", "comes with its schema, an object"),
    (chat(response_format=schema("{}")), "response_format", "comes with its schema, an object"),
    (chat(response_format=schema({"type": "string"})), "response_format", "cannot do 'json_schema', only 'text'"),
    (chat(n=1000), "n", "n: a number of at most 128 is accepted, not 1000"),
    (chat(n=True), "n", "n: a whole number is accepted, not true"),
    (chat(max_tokens=1.5), "max_tokens", "max_tokens: a whole number is accepted, not 1.5"),
    (chat(temperature="0.5"), "temperature", 'temperature: a number is accepted, not "0.5"'),
    (chat(temperature=-0.5), "temperature", "temperature: a number of at least 0 is accepted, not -0.5"),
    (chat(logit_bias={"cat": 1}), "logit_bias", "logit_bias.cat: a key of it is a token's id"),
    (chat(logit_bias={"5": "much"}), "logit_bias", 'logit_bias.5: a number is accepted, not "much"'),
    (chat(logit_bias=[5]), "logit_bias", "logit_bias: an object is accepted, not a list of 1"),
    (chat(stop=["a", ""]), "stop", 'stop.1: a string that is not empty is accepted, not ""'),
    (chat(stop=7), "stop", "stop: a string or a list is accepted, not 7"),
    (chat(stream="yes"), "stream", 'stream: true or false is accepted, not "yes"'),
    (chat(messages=None), "messages", "messages: it is missing"),
    (chat(messages="hello"), "messages", 'messages: a list is accepted, not "hello"'),
    (chat(messages=[HI] * 2049), "messages", "at most 2048"),
    (chat(messages=[{"role": "user"}]), "messages", "messages.0: a message of the role user needs a content"),
    (chat(messages=[HI, {**HI, "role": "bot"}]), "messages", "messages.1.role: 'system', 'developer', 'user',"),
    (chat(messages=[{**HI, "content": 5}]), "messages", "messages.0.content: a string or a list is accepted, not 5"),
    (chat(continue_final_message=True), "continue_final_message", "only with add_generation_prompt set to false"),
    (chat(top_logprobs=2), "top_logprobs", "only with logprobs set to true"),
    (chat(stream_options={"include_usage": True}), "stream_options", "only with stream set to true"),
    (parts(type="image_url", image_url={}), "messages", 'messages.0.content.0: a part of type "image_url" cannot be'),
    (parts(type="input_audio"), "messages", 'messages.0.content.0: a part of type "input_audio" cannot be read here'),
    (parts(text=None), "messages", "messages.0.content.0.text: it is missing"),
    (history(tool_calls=[{"id": "c"}]), "messages", "messages.1.tool_calls: tools are not served here"),
    (history(function_call={"name": "f"}), "messages", "messages.1.function_call: tools are not served here"),
    (history(audio={"id": "a"}), "messages", "messages.1.audio: this server takes and gives text only"),
    (history(refusal="no"), "messages", "messages.1.refusal: a message has either a content or a refusal"),
    (text(suffix="x"), "suffix", "send all of it as the prompt"),
    (text(best_of=3), "best_of", "makes n answers and returns all of them"),
    (text(max_completion_tokens=3), "max_completion_tokens", "this route calls it max_tokens"),
    (text(prompt=["a", ""]), "prompt", 'prompt.1: a string that is not empty is accepted, not ""'),
    (text(prompt=[5, "a"]), "prompt", 'prompt.1: a whole number is accepted, not "a"'),
    (text(prompt={}), "prompt", "prompt: a string or a list is accepted, not an object"),
    (inference(input=None), "input", "input: it is missing"),
    (inference(seed=3), "seed", "/v1/chat/completions does"),
    (inference(stop="x"), "stop", "/v1/chat/completions does"),
    (inference(stream=True), "stream", "this route does not stream"),
    (qa(ref={"enable": True}), "ref", "nothing is searched here"),
    (qa(n=2), "n", "/v1/chat/completions does"),
    (qa(n=True), "n", "/v1/chat/completions does"),
    (qa(ref={"enable": 0}), "ref", "nothing is searched here"),
    (chat(skip_special_tokens=1), "skip_special_tokens", "special tokens are never part of the answer"),
    (chat(min_tokens=False), "min_tokens", "ignore_eos lets it run to max_tokens"),
    (qa(prompt=[{"role": "user"}]), "prompt", "prompt.0.content: it is missing"),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case[1]} {case[2]}"[:60])
def test_what_cannot_be_done_is_refused_with_a_sentence_that_names_it(echo, case):
    (path, body, more), param, sentence = case
    response = echo.post(path, {**body, **more})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert sentence in error["message"]
    assert error["param"] == param
    for arm in ("constrained", "[", "function-", "TextPart", "Input should"):  # pydantic's own words
        assert arm not in error["message"]


@pytest.fixture
def forbidding(serve):
    """Serve an engine that can bias or forbid four tokens, with two forbidden and one more that it does not have."""
    server = load(from_mapping({"engine": "echo"}))
    server.engine.vocabulary = replace(server.engine.vocabulary, biased=4)
    server.defaults = {"suppressed": frozenset({7, 8, 258883})}
    return serve(server)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("tokens", [(), (5, 6), (5, 6, 7, 8)], ids=str)
def test_as_many_biases_as_the_engine_holds_beside_what_is_forbidden_are_taken(forbidding, tokens, stream):
    body = {"prompt": "a", "stream": stream, "logit_bias": {str(token): 1 for token in tokens}}
    assert forbidding.post(TEXT, body).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "body"), [(TEXT, {"prompt": "a"}), (CHAT, {"messages": [HI]})])
def test_one_bias_more_than_the_engine_holds_beside_what_is_forbidden_is_refused(forbidding, path, body, stream):
    answer = forbidding.post(path, {**body, "stream": stream, "logit_bias": {"5": 1, "6": 1, "7": 1, "9": 1}})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "logit_bias"
    assert "it has 4 tokens, and 2 are accepted beside the 2 that the model's authors forbid" in answer.text


class Choosy(EchoEngine):
    """An engine that knows response formats, and has no use for a schema of this type."""

    checked_by: threading.Thread | None = None

    def check_format(self, response_format):
        self.checked_by = threading.current_thread()
        if response_format.get("json_schema") == {"schema": {"type": "nonsense"}}:
            raise FormatError('Unsupported type "nonsense"')


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "body"), [(TEXT, {"prompt": "a"}), (CHAT, {"messages": [HI]})])
def test_a_response_format_that_the_engine_refuses_is_refused_before_the_answer_begins(serve, path, body, stream):
    running = serve(assemble(from_mapping({"engine": "echo"}), ByteTokenizer(), Choosy()))
    answer = running.post(path, {**body, "stream": stream, "response_format": schema({"type": "nonsense"})})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "response_format")
    assert error["message"] == 'response_format: Unsupported type "nonsense"'
    good = {**body, "stream": stream, "response_format": schema({"type": "string"})}
    assert running.post(path, good).status_code == 200


def test_a_response_format_is_looked_at_beside_the_event_loop(serve):
    running = serve(assemble(from_mapping({"engine": "echo"}), ByteTokenizer(), Choosy()))
    threads = set(threading.enumerate())
    assert running.post(TEXT, {"prompt": "a", "response_format": {"type": "json_object"}}).status_code == 200
    assert running.server.engine.checked_by
    assert running.server.engine.checked_by not in threads


TABLES = {**refused.PROMPT, **refused.SAMPLING, **refused.OLD_ROUTES, **refused.MESSAGE}


@pytest.mark.parametrize("name", TABLES)
def test_no_number_is_taken_for_a_truth_value_nor_one_for_a_number(name):
    for value in TABLES[name].neutral:
        refused.check(TABLES, {name: value})
        if isinstance(value, (bool, int)) and value in {0, 1}:
            for other in (int(value), float(value)) if isinstance(value, bool) else (bool(value),):
                with pytest.raises(ValidationError):
                    refused.check(TABLES, {name: other})


VALID = [
    (requests.ChatRequest, {**history(**AS_THE_CLIENT_HAS_IT)[1], "logit_bias": {"5": 1}, "stop": ["a"]}),
    (requests.ChatRequest, {**parts()[2], "stream": True, "stream_options": {"include_usage": True}}),
    (requests.ChatRequest, {"messages": [HI], "response_format": {"type": "text"}, "chat_template_kwargs": {"a": 1}}),
    (requests.CompletionRequest, {"prompt": [[5, 6], [7]], "echo": True, "logprobs": 2, "suffix": ""}),
    (requests.EmbeddingRequest, {"input": ["a", "b"], "encoding_format": "base64"}),
    (requests.TokenizeRequest, {"messages": [HI], "add_generation_prompt": False}),
    (requests.DetokenizeRequest, {"tokens": [5, 6]}),
    (requests.InferenceRequest, {"input": "a", "max_tokens": 3}),
    (requests.ZhipuRequest, {"prompt": [HI], "ref": {"enable": False}, "incremental": False, "secretKey": "k"}),
]


def with_nulls(value, names, dice):
    """Return a body with keys of no value in all of its objects."""
    if isinstance(value, list):
        return [with_nulls(one, names, dice) for one in value]
    if not isinstance(value, dict):
        return value
    pairs = [(name, with_nulls(one, names, dice)) for name, one in value.items()]
    more = [(name, None) for name in dice.sample(names, dice.randint(0, 4)) if name not in value]
    return dict(dice.sample(pairs + more, len(pairs + more)))


@pytest.mark.parametrize(("kind", "body"), VALID, ids=lambda one: getattr(one, "__name__", ""))
def test_nulls_anywhere_in_a_body_change_nothing(kind, body):
    names = [*kind.model_fields, *requests.Message.model_fields, *kind.refusals, "refusal", "made_up", "5"]
    plain = kind.model_validate(parse(json.dumps(body).encode())).model_dump()
    dice = random.Random(18)
    for _ in range(300):
        sprinkled = with_nulls(body, names, dice)
        assert kind.model_validate(parse(json.dumps(sprinkled).encode())).model_dump() == plain, sprinkled


def test_null_in_a_json_schema_is_a_value():
    schema = {"schema": {"enum": ["a", None], "default": None}, "strict": None}
    value = parse(json.dumps({"response_format": {"type": "json_schema", "json_schema": schema}}).encode())
    assert value["response_format"]["json_schema"] == {"schema": {"enum": ["a", None], "default": None}}
