"""What is asked of both servers, and where they may differ, each with its reason."""

from dataclasses import dataclass, field
from typing import Any

HI = [{"role": "user", "content": "你好"}]
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
GREEDY = {"temperature": 0, "max_tokens": 12}


@dataclass(frozen=True)
class Case:
    """One request; `greedy`: the text must be the same too."""

    name: str
    method: str
    path: str
    options: dict[str, Any] = field(default_factory=dict)
    greedy: bool = False


def chat(name, greedy=False, **body):
    return Case(name, "POST", CHAT, {"json": {"model": "tiny", "messages": HI, **body}}, greedy)


def text(name, greedy=False, **body):
    return Case(name, "POST", TEXT, {"json": {"model": "tiny", "prompt": "The quick", **body}}, greedy)


def post(name, path, **body):
    return Case(name, "POST", path, {"json": {"model": "tiny", **body}})


USAGE = {"stream": True, "stream_options": {"include_usage": True}}
CONTINUOUS = {"include_usage": True, "continuous_usage_stats": True}
PARTS = [{"type": "text", "text": "a"}]
CASES = [
    chat("chat", True, **GREEDY),
    chat("chat, two turns", True, messages=[*HI, {"role": "assistant", "content": "ok"}, *HI], **GREEDY),
    chat("chat, system", True, messages=[{"role": "system", "content": "be brief"}, *HI], **GREEDY),
    chat("chat, content in parts", True, messages=[{"role": "user", "content": PARTS}], **GREEDY),
    chat("chat, max_completion_tokens", True, temperature=0, max_completion_tokens=5),
    chat("chat, both limits", True, temperature=0, max_completion_tokens=5, max_tokens=9),
    chat("chat, stream", True, stream=True, **GREEDY),
    chat("chat, stream with usage", True, **USAGE, **GREEDY),
    chat("chat, stream with continuous usage", True, stream=True, stream_options=CONTINUOUS, **GREEDY),
    chat("chat, n", True, n=2, **GREEDY),
    chat("chat, log-probabilities", True, logprobs=True, top_logprobs=2, **GREEDY),
    chat("chat, log-probabilities of the chosen", True, logprobs=True, **GREEDY),
    chat("chat, stream of log-probabilities", True, stream=True, logprobs=True, top_logprobs=1, **GREEDY),
    chat("chat, penalties", True, presence_penalty=0.5, frequency_penalty=0.5, **GREEDY),
    chat("chat, repetition penalty", True, repetition_penalty=1.3, **GREEDY),
    chat("chat, logit_bias", True, logit_bias={"40": 100}, **GREEDY),
    chat("chat, ignore_eos", True, ignore_eos=True, temperature=0, max_tokens=60),
    chat("chat, seed", seed=3, max_tokens=4),
    chat("chat, sampled", temperature=0.7, top_p=0.9, top_k=20, min_p=0.05, max_tokens=4),
    chat("chat, plain response_format", True, response_format={"type": "text"}, **GREEDY),
    chat("chat, to the end of the context", temperature=0, ignore_eos=True),
    chat("chat, no add_generation_prompt", True, add_generation_prompt=False, **GREEDY),
    text("text", True, **GREEDY),
    text("text, default length", True, temperature=0),
    text("text, stream with usage", True, **USAGE, **GREEDY),
    text("text, two prompts", True, prompt=["The quick", "你好"], **GREEDY),
    text("text, token ids", True, prompt=[10, 11, 12], **GREEDY),
    text("text, lists of token ids", True, prompt=[[10, 11], [12]], **GREEDY),
    text("text, echo", True, echo=True, **GREEDY),
    text("text, log-probabilities", True, logprobs=2, **GREEDY),
    text("text, n", True, n=3, **GREEDY),
    text("text, a stop string", True, stop="e", temperature=0, max_tokens=60),
    text("text, stop strings", True, stop=["zz", "o"], temperature=0, max_tokens=60),
    text("text, stream with a stop string", True, stop=["e"], stream=True, temperature=0, max_tokens=60),
    Case("models", "GET", "/v1/models"),
    post("tokenize", "/tokenize", prompt="The quick 你好"),
    post("tokenize, strings", "/tokenize", prompt="The quick", return_token_strs=True),
    post("tokenize, chat", "/tokenize", messages=HI),
    post("detokenize", "/detokenize", tokens=[10, 11, 12]),
    chat("no messages", messages=[]),
    chat("unknown model", model="another"),
    chat("unknown role", messages=[{"role": "wizard", "content": "a"}]),
    chat("messages as text", messages="hello"),
    chat("negative temperature", temperature=-1),
    chat("temperature as text", temperature="warm"),
    chat("top_p of nothing", top_p=0),
    chat("top_p above one", top_p=1.5),
    chat("top_k below -1", top_k=-2),
    chat("no tokens", max_tokens=0),
    chat("negative tokens", max_tokens=-1),
    chat("more tokens than the context", max_tokens=5000),
    chat("prompt longer than the context", messages=[{"role": "user", "content": "q " * 2000}]),
    chat("no choices", n=0),
    chat("presence_penalty out of range", presence_penalty=3),
    chat("frequency_penalty out of range", frequency_penalty=-3),
    chat("repetition_penalty of nothing", repetition_penalty=0),
    chat("top_logprobs without logprobs", top_logprobs=2),
    chat("too many top_logprobs", logprobs=True, top_logprobs=100),
    chat("stream_options without stream", stream_options={"include_usage": True}),
    chat("an empty stop string", stop=""),
    chat("tool_choice without tools", tool_choice="auto"),
    chat("tools", tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}], tool_choice="auto"),
    chat("continue_final_message with add_generation_prompt", continue_final_message=True, add_generation_prompt=True),
    chat("logit_bias of an unknown token", logit_bias={"99999": 1}),
    chat("an unknown parameter", True, no_such_parameter=1, **GREEDY),
    chat("a response format of JSON", response_format={"type": "json_object"}, max_tokens=4),
    text("no prompt", prompt=None),
    text("an unknown token id", prompt=[99999]),
    text("echo of no tokens", echo=True, max_tokens=0),
    text("suffix", suffix="end"),
    Case("not JSON", "POST", CHAT, {"content": "{", "headers": {"content-type": "application/json"}}),
    Case("no such path", "GET", "/v1/nothing"),
    Case("wrong method", "GET", CHAT),
]  # fmt: skip

# Patterns of `PATH: OURS | THEIRS`, and why. `[[]` is a bracket.
KNOWN = {
    "*: - | NoneType": "vLLM writes null into every field of a feature that was not asked for, or that it alone has",
    "*system_fingerprint: - | str": "vLLM names its own build",
    "data[[][]].permission*": "OpenAI took the field out of its API",
    "error.param: str | NoneType": "this server names the parameter where vLLM names none",
    "error.param: NoneType | str": "the body is not JSON: vLLM gives the place of the fault here",
    "detail: - | str": "404 and 405: this server keeps OpenAI's shape where vLLM leaves it to its framework",
    "error: dict | -": "the same",
    "*logprobs.content*.bytes: NoneType/list | list": "a token that is a part of a character has no bytes of its own "
    "text: null, as OpenAI allows; vLLM gives an empty text and empty bytes",
    "*.finish_reason: str | NoneType/str": "vLLM sends empty pieces where this server sends none",
    "*.stop_reason: str | NoneType/str": "the same",
    "*.stop_reason: NoneType | *int": "vLLM names the token where a model has several that end an answer",
}
# Name of a case: (our status, theirs, why).
REFUSED_ELSEWHERE = {
    "chat, n": (200, 400, "vLLM refuses several greedy answers; OpenAI gives them"),
    "text, n": (200, 400, "the same"),
    "unknown role": (400, 200, "a template may drop such a message silently"),
    "tool_choice without tools": (200, 400, "auto says nothing where there are no tools"),
    "a response format of JSON": (400, 200, "the transformers engines cannot constrain their output"),
    "echo of no tokens": (400, 200, "to score a prompt is not offered"),
}
