"""OpenAI's Python client through the proxy's prefix: what it reads, and what it raises."""

import openai
import pytest

from clients.conftest import NAME

QUESTION = [{"role": "user", "content": "你好, tell me a story"}]
LONG = [{"role": "user", "content": "x" * 1500}]  # 30 seconds of echo, at 20 ms each


def client_of(served, **options):
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=60, **options)


@pytest.fixture
def client(model):
    with client_of(model) as client:
        yield client


@pytest.fixture
def chat(client):
    def ask(**options):
        options = {"messages": QUESTION, "temperature": 0, "max_tokens": 24, **options}
        return client.chat.completions.create(model=NAME, **options)

    return ask


def test_the_model_is_listed_and_found_by_its_name(client):
    assert [model.id for model in client.models.list()] == [NAME]
    assert client.models.retrieve(NAME).object == "model"


def test_a_chat_completion_has_text_a_reason_and_usage(chat):
    answer = chat()
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 24
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 24


def test_a_stream_comes_in_pieces_that_make_the_same_text_and_ends_with_usage(chat):
    whole = chat()
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert len(chunks) > 10
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1] if chunk.choices][-1] == "length"


AGAIN = {"role": "user", "content": "and then?"}


def turns(chat):
    """Return the message of a first answer, whole and streamed, and what the second answer must be."""
    first = chat()
    plain = {"role": "assistant", "content": first.choices[0].message.content}
    second = chat(messages=[*QUESTION, plain, AGAIN])
    return first.choices[0].message, second.choices[0].message, second.usage


def test_an_answer_goes_back_into_the_conversation_as_the_client_has_it(chat):
    message, expected, usage = turns(chat)
    assert "refusal" in message.model_dump()
    for back in (message, message.model_dump(), message.to_dict(), {**message.model_dump(), "id": "chatcmpl-1"}):
        answer = chat(messages=[*QUESTION, back, AGAIN])
        assert (answer.choices[0].message, answer.usage) == (expected, usage)


def test_a_streamed_answer_goes_back_into_a_streamed_conversation(client, chat):
    stop = chat().choices[0].message.content[5:7]  # the client's helper takes no answer that ends by its length
    options = {"model": NAME, "temperature": 0, "max_tokens": 24, "stop": stop}
    with client.chat.completions.stream(messages=QUESTION, **options) as stream:
        message = stream.get_final_completion().choices[0].message
    plain = {"role": "assistant", "content": message.content}
    expected = chat(messages=[*QUESTION, plain, AGAIN]).choices[0].message.content
    for back in (message, message.model_dump()):
        chunks = chat(messages=[*QUESTION, back, AGAIN], stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected


def test_parameters_of_other_models_and_servers_that_change_no_text_are_taken(chat):
    plain = chat()
    options = {"store": True, "metadata": {"a": "b"}, "verbosity": "low", "reasoning_effort": "high", "n": None}
    options |= {"prompt_cache_key": "k", "safety_identifier": "me", "modalities": ["text"], "service_tier": "flex"}
    answer = chat(**options, parallel_tool_calls=True, extra_body={"no_such_parameter": 1, "stop": None})
    assert (answer.choices, answer.usage) == (plain.choices, plain.usage)


def test_several_choices_and_log_probabilities_are_understood(chat):
    answer = chat(n=2, logprobs=True, top_logprobs=3, seed=7)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert len(answer.choices[0].logprobs.content) == 24
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 3


def test_a_text_completion_and_its_stream_agree(client):
    options = {"model": NAME, "prompt": "你好! 我们用中文打个招呼", "temperature": 0, "max_tokens": 20}
    whole = client.completions.create(**options)
    chunks = list(client.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    assert chunks[-1].usage == whole.usage


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_are_vectors_in_either_encoding(client, encoding):
    answer = client.embeddings.create(model=NAME, input=["cat", "你好"], encoding_format=encoding)
    assert len(answer.data) == 2
    plain = client.embeddings.create(model=NAME, input="cat")
    if encoding == "float":
        assert answer.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"model": "another"}, openai.NotFoundError),
        ({"temperature": -1}, openai.BadRequestError),
        ({"max_tokens": 0}, openai.BadRequestError),
        ({"messages": [{"role": "user", "content": "x " * 2000}]}, openai.BadRequestError),
        ({"stream_options": {"include_usage": True}}, openai.BadRequestError),
        ({"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}, openai.BadRequestError),
    ],
)
def test_what_cannot_be_done_raises_the_clients_own_error(client, options, error):
    with pytest.raises(error) as raised:
        client.chat.completions.create(**{"model": NAME, "messages": QUESTION, **options})
    assert raised.value.body["message"]
    assert raised.value.body["type"]


def test_a_server_with_no_place_left_raises_a_rate_limit_error_that_says_when_to_retry(slow):
    with client_of(slow) as client:
        stream = client.chat.completions.create(model=NAME, messages=LONG, stream=True)
        try:
            with pytest.raises(openai.RateLimitError) as raised:
                client.chat.completions.create(model=NAME, messages=QUESTION)
        finally:
            stream.close()
    assert int(raised.value.response.headers["retry-after"]) > 0
    slow.wait_until_free()


def test_a_closed_stream_frees_its_place_long_before_the_answer_would_have_ended(slow):
    with client_of(slow) as client:
        stream = client.chat.completions.create(model=NAME, messages=LONG, stream=True)
        assert any(chunk.choices[0].delta.content for chunk in stream)  # any: leaves at the first
        stream.close()
    slow.wait_until_free()


def test_a_client_that_stops_waiting_for_a_whole_answer_frees_its_place(slow):
    with client_of(slow) as client, pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).chat.completions.create(model=NAME, messages=LONG)
    slow.wait_until_free()


def test_the_prefix_of_the_kserve_quick_start_answers_as_well(model):
    with openai.OpenAI(base_url=f"{model.url}/openai/v1", api_key="none", max_retries=0) as client:
        assert client.chat.completions.create(model=NAME, messages=QUESTION, max_tokens=2).usage
