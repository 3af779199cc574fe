"""Bodies as a hostile caller writes them: every number at its extremes, and what is no body at all."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

HI = [{"role": "user", "content": "hi"}]
TEXT, CHAT, QA = "/v1/completions", "/v1/chat/completions", "/embeddings/QuestionAnswer"
# As they are written in JSON, or in what calls itself JSON.
NUMBERS = [
    "0",
    "-0.0",
    "1e-320",
    "1e-45",
    "1e-40",
    "1e-39",
    "1e-38",
    "1e-10",
    "0.009",
    "0.01",
    "0.5",
    "1",
    "1.0",
    "2",
    "10",
    "100",
    "1e30",
    "1e38",
    "1e308",
    "1e309",
    "-1",
    "-1e-40",
    "-1e308",
    "127",
    "128",
    "129",
    "2147483647",
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551616",
    "NaN",
    "Infinity",
    "-Infinity",
    "true",
    "false",
    "null",
    '"1"',
    '"0"',
    '"1e-40"',
    '""',
    "[]",
    "{}",
]
NUMBERS += ["1" + "0" * 400, "1" * 4300, "1" * 5000, f'"{"1" * 5000}"', f"1e-{'9' * 30}", f"0.{'0' * 400}1"]

SAMPLING = ["temperature", "top_p", "top_k", "min_p", "max_tokens"]
OPENAI = [*SAMPLING, "seed", "n", "presence_penalty", "frequency_penalty", "repetition_penalty"]
# For each route: a body that is answered, and its fields that are numbers.
FIELDS = {
    TEXT: ({"prompt": "ab", "max_tokens": 3}, [*OPENAI, "logprobs", "best_of", "suffix", "stop"]),
    CHAT: ({"messages": HI, "max_tokens": 3}, [*OPENAI, "top_logprobs", "max_completion_tokens"]),
    "/chat/completions": ({"messages": HI, "max_tokens": 3}, OPENAI),
    "/inference": ({"input": "ab", "max_tokens": 3}, SAMPLING),
    QA: ({"prompt": HI, "max_tokens": 3}, SAMPLING),
    "/v1/embeddings": ({"input": "ab"}, ["dimensions"]),
}
ROUTES = {
    **{path: body for path, (body, _) in FIELDS.items()},
    "/tokenize": {"prompt": "ab"},
    "/detokenize": {"tokens": [5, 6]},
    f"{QA}?stream=true": {"prompt": HI, "max_tokens": 3},
    "/openai/v1/chat/completions": {"messages": HI, "max_tokens": 3, "stream": True},
}
NAMES = sorted(
    {name for _, names in FIELDS.values() for name in names}
    | {
        "messages",
        "prompt",
        "input",
        "model",
        "stop",
        "logit_bias",
        "logprobs",
        "ignore_eos",
        "stream",
        "stream_options",
        "response_format",
        "user",
        "tools",
        "tool_choice",
        "metadata",
        "chat_template_kwargs",
        "reasoning_effort",
        "add_generation_prompt",
        "continue_final_message",
        "echo",
        "incremental",
        "request_id",
        "secretKey",
        "encoding_format",
        "tokens",
        "add_special_tokens",
        "return_token_strs",
        "functions",
        "store",
        "suffix",
        "parallel_tool_calls",
        "modalities",
        "prediction",
        "chat_template",
        "documents",
        "padding",
        "truncation",
        "return_tensors",
    }
)
TEXTS = [
    "",
    " ",
    "\u0000",
    "\ud800",
    "你好，猫",
    "👩\u200d👩\u200d👧",
    "ก็",
    "</s>",
    "<|user|>",
    "<|assistant|></s><s>",
    "{{ 7 * 7 }}",
    "{% for a in range(10**9) %}{% endfor %}",
    "a" * 300,
    "ab " * 3000,
    "\\",
    '"',
    "\r\n\r\n",
    "data: [DONE]",
    "1" * 5000,
]


def written(body, said):
    """Return a body as text, with fields as they are written, not as Python would write them."""
    text = json.dumps({**body, **{name: f"@{name}@" for name in said}})
    for name, value in said.items():
        text = text.replace(f'"@{name}@"', value)
    return text.encode()


@dataclass(frozen=True)
class Call:
    """One call: where, what, and as which kind of content."""

    path: str
    content: bytes
    kind: str = "application/json"


class Caller:
    """Think of calls: each is a good one that was changed here and there."""

    def __init__(self, seed):
        self._random = random.Random(seed)

    def call(self):
        """Return the next call."""
        chance, pick = self._random.random, self._random.choice
        path = pick(list(ROUTES))
        body = dict(ROUTES[path])
        said = {}
        for _ in range(self._random.randint(0, 4)):
            name = pick(NAMES)
            if chance() < 0.5:
                said[name] = pick(NUMBERS)
            else:
                body[name] = self._value(3)
        if chance() < 0.2:
            body.pop(pick(list(body)))
        if chance() < 0.3 and path != "/v1/embeddings":
            body["stream"] = True
        content = written({name: value for name, value in body.items() if name not in said}, said)
        if chance() < 0.15:
            content = self._spoilt(content)
        kind = "application/json" if chance() < 0.95 else pick(["text/plain", "", "application/x-www-form-urlencoded"])
        return Call(path, content, kind)

    def _value(self, depth):
        """Return a value that a body may have, with what a conversation consists of among the others."""
        chance, pick = self._random.random, self._random.choice
        if depth == 0 or chance() < 0.5:
            return pick([*TEXTS, None, True, False, 0, -1, 7, 399, 400, 2**31, 0.5, -0.0, 1e308])
        if chance() < 0.5:
            return [self._value(depth - 1) for _ in range(self._random.randint(0, 4))]
        names = ["role", "content", "type", "text", "name", "7", "400", "include_usage", "enable_thinking", *NAMES]
        found = {pick(names): self._value(depth - 1) for _ in range(self._random.randint(0, 4))}
        return {"role": pick(["user", "assistant", "system", "tool", "robot"]), **found} if chance() < 0.5 else found

    def _spoilt(self, content):
        """Return bytes that are hardly a body any more."""
        place = self._random.randint(0, len(content))
        return self._random.choice(
            [
                content[:place],
                content[:place] + self._random.randbytes(4) + content[place:],
                content + content,
                b"[" * 20_000,
                b'{"a":' * 20_000,
                b'{"input":"' + b'\\"' * 20_000,
                b'{"input": "' + b"x" * 5_000_000 + b'"}',
                b"",
                b"null",
                b"\xff\xfe{}",
            ]
        )
