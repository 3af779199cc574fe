"""The vLLM engine, where vLLM is installed: on a GPU, or on a CPU with its wheel for one.

vLLM pins other versions than the transformers engines, so it has an environment of its own and this file runs alone:

    VLLM_CPU_KVCACHE_SPACE=1 <its python> -m pytest tests/serving/test_vllm_engine.py
"""

import json
from types import SimpleNamespace

import loads
import pytest

pytest.importorskip("vllm", reason="vLLM is not installed: it needs an environment of its own")

pytestmark = pytest.mark.timeout(900)  # vLLM takes its time to start, on a busy CPU minutes
LONG = {"prompt": "a", "max_tokens": 400, "ignore_eos": True, "temperature": 0}


PROMPTS = ("The quick", "def main():", "你好")


def greedy(base, adapter):
    """Return what transformers and PEFT say after each prompt."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    texts = [tokenizer(prompt, return_tensors="pt") for prompt in PROMPTS]
    return [
        model.generate(**ids, max_new_tokens=12, do_sample=False)[0][ids.input_ids.shape[1] :].tolist()
        for ids in texts
    ]


@pytest.fixture(scope="module")
def forbidding(base, adapter, tmp_path_factory):
    """Return the model whose authors forbid what it would say first, and a token that it does not have."""
    folder = loads.copy(base, tmp_path_factory.mktemp("model") / "forbidding")
    first = [answer[0] for answer in greedy(base, adapter)]
    loads.edit_json(folder / "generation_config.json", suppress_tokens=[*first, 258883])
    return folder


@pytest.fixture(scope="module")
def vllm(forbidding, adapter):
    from conftest import listening
    from llmserving.server import load
    from llmserving.settings import from_mapping

    folders = {"model_dir": forbidding, "checkpoint_dir": adapter}
    settings = from_mapping({**folders, "model_name": "tiny", "engine": "vllm"})
    with listening(load(settings)) as running:
        yield running


def test_greedy_text_is_that_of_the_merged_model_without_what_its_authors_forbid(vllm, base, forbidding, adapter):
    answers = greedy(forbidding, adapter)
    assert all(answer[0] != before[0] for answer, before in zip(answers, greedy(base, adapter), strict=True))
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        body = {"prompt": prompt, "temperature": 0, "max_tokens": 12}
        text = vllm.post("/v1/completions", body).json()["choices"][0]["text"]
        assert vllm.server.tokenizer.decode(answer).startswith(text)
        biased = {**body, "logit_bias": {str(first[0]): 100 for first in greedy(base, adapter)}}
        assert vllm.post("/v1/completions", biased).json()["choices"][0]["text"] == text


def test_a_model_that_forbids_more_tokens_than_vllm_can_is_refused_before_it_is_loaded(forbidding, monkeypatch):
    from llmserving.engines import vllm
    from llmserving.settings import from_mapping

    monkeypatch.setattr(vllm, "MOST_BIASES", 1)
    monkeypatch.delattr(vllm, "VllmEngine")
    with pytest.raises(ValueError, match=r"forbids \d tokens .* can forbid 1; engine continuous serves this model"):
        vllm.load_vllm(from_mapping({"model_dir": forbidding, "engine": "vllm"}))


def test_the_most_tokens_that_a_sequence_can_bias_are_as_vllm_has_them(vllm):
    from vllm.v1.worker.gpu.sample.logit_bias import MAX_NUM_LOGIT_BIAS_TOKENS

    assert vllm.server.engine.vocabulary.biased == MAX_NUM_LOGIT_BIAS_TOKENS


@pytest.mark.parametrize(
    "wanted",
    [
        {"seed": 4, "n": 2, "top_p": 0.9, "top_k": 20, "min_p": 0.01},
        {"presence_penalty": 1, "frequency_penalty": 0.5, "repetition_penalty": 1.1, "logit_bias": {"17": 2}},
        {"stop": ["zz"], "logprobs": 2},
    ],
)
def test_every_parameter_is_taken(vllm, wanted):
    response = vllm.post("/v1/completions", {"prompt": "The quick", "max_tokens": 6, "ignore_eos": True, **wanted})
    assert response.status_code == 200
    assert response.json()["usage"]["completion_tokens"] == 6 * wanted.get("n", 1)


def test_a_response_format_is_kept_to(vllm):
    messages = [{"role": "user", "content": "hi"}]
    schema = {
        "type": "object",
        "properties": {"a": {"enum": [1, 2]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    format_ = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    body = {"messages": messages, "max_tokens": 400, "response_format": format_, "logit_bias": {"225": -100}}
    choice = vllm.post("/v1/chat/completions", body).json()["choices"][0]
    if choice["finish_reason"] == "stop":  # a model of random weights may fill it up with blanks
        assert json.loads(choice["message"]["content"])["a"] in {1, 2}
    assert choice["message"]["content"].startswith("{")


def test_a_response_format_that_is_none_is_refused(vllm):
    body = {"prompt": "a", "response_format": {"type": "grammar"}}
    assert vllm.post("/v1/completions", body).status_code == 400


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "nonsense"}, 'Unsupported type "nonsense"'),
        ({"$ref": "#/no"}, "Cannot find field no"),
        ({"type": "string", "pattern": "(?<=a)b"}, "Lookbehind is not supported yet."),
        ({"type": "object", "patternProperties": {"(": {}}}, "The parenthesis is not closed."),
        ({"type": "integer", "multipleOf": 3}, "contains features not supported by xgrammar"),
        ({"type": "x" * 300}, "Unsupported type"),
        ({"properties": 5}, "properties must be an object"),
    ],
    ids=lambda one: str(one)[:60],
)
def test_a_schema_that_vllm_can_keep_no_answer_to_is_refused_before_the_answer_begins(vllm, schema, reason, stream):
    format_ = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = vllm.post("/v1/completions", {"prompt": "a", "stream": stream, "response_format": format_})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "response_format")
    assert error["message"].startswith("response_format: vLLM cannot keep an answer to it: ")
    assert reason in error["message"]
    assert ".cc:" not in error["message"]
    assert len(error["message"]) < 270


def test_what_vllm_gives_up_is_an_error_and_no_end_of_an_answer(vllm, monkeypatch):
    async def given_up(*_, **__):
        output = SimpleNamespace(token_ids=[], logprobs=None, finish_reason="error")
        yield SimpleNamespace(outputs=[output])

    monkeypatch.setattr(vllm.server.engine._engine, "generate", given_up)
    answer = vllm.post("/v1/completions", {"prompt": "a"})
    assert answer.status_code == 500
    assert "the answer cannot go on: vLLM gave it up, and its log says why" in answer.text


def test_a_client_that_goes_away_frees_its_slot(vllm):
    with vllm.client.stream("POST", "/v1/completions", json={**LONG, "n": 8, "stream": True}) as response:
        next(response.iter_lines())
    vllm.wait_until_idle()


def test_a_vllm_that_died_is_seen(vllm):
    vllm.server.engine.check_health()
    vllm.server.engine._engine.shutdown()
    response = vllm.post("/v1/completions", LONG)
    assert response.status_code == 503
    assert vllm.client.get("/ready").status_code == 503
