"""What would change the answer and cannot be done here: refused with a sentence that says what to do instead.

By name: the values that change nothing, and the sentence for any other. What stands in no table, and is no field of
a request, changes no answer and is ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Refusal(NamedTuple):
    """The values of a parameter that are let through, and what is said of any other."""

    neutral: tuple[object, ...]
    sentence: str


TOOLS = "tools are not served here: describe them in a message, and let your application read the answer"
TEXT_ONLY = "this server takes and gives text only"
CONSTRAINED = "this server knows response_format instead, where its engine can constrain an answer"
SAMPLING_ELSEWHERE = (
    "this server cannot sample so: temperature, top_p, top_k, min_p and the penalties are what it knows"
)
OPTION = "an option of the chat template goes into chat_template_kwargs"
NEWER = "this route does not take it: /v1/chat/completions does"

# What would change the prompt.
PROMPT = {
    "tools": Refusal(([],), TOOLS),
    "functions": Refusal(([],), TOOLS),
    "function_call": Refusal(("none", "auto"), TOOLS),
    "documents": Refusal(([],), "put the documents into a message"),
    "web_search_options": Refusal((), "nothing is searched here: put what was found into a message"),
    "chat_template": Refusal((), "the chat template is the operator's to choose (SERVING_CHAT_TEMPLATE)"),
    "enable_thinking": Refusal((), OPTION),
    "thinking": Refusal((), OPTION),
    "add_special_tokens": Refusal((), "send token ids as the prompt to decide on special tokens"),
    "truncate_prompt_tokens": Refusal((-1,), "nothing is cut here: send what fits the context"),
    "audio": Refusal((), TEXT_ONLY),
    "modalities": Refusal((["text"], []), TEXT_ONLY),
}
# What would change how the prompt is continued, or what is told of it.
SAMPLING = {
    "max_completion_tokens": Refusal((), "this route calls it max_tokens"),
    "max_new_tokens": Refusal((), "this server calls it max_tokens"),
    "min_tokens": Refusal((0,), "an answer cannot be made longer; ignore_eos lets it run to max_tokens"),
    "do_sample": Refusal((True,), "temperature: 0 takes the likeliest token each time"),
    "suffix": Refusal(("",), "text cannot be put before what exists: send all of it as the prompt"),
    "echo": Refusal((False,), "only /v1/completions repeats its prompt"),
    "best_of": Refusal((1,), "ask for n answers and choose"),
    "use_beam_search": Refusal((False,), SAMPLING_ELSEWHERE),
    "num_beams": Refusal((1,), SAMPLING_ELSEWHERE),
    "length_penalty": Refusal((1, 0), SAMPLING_ELSEWHERE),
    "typical_p": Refusal((1,), SAMPLING_ELSEWHERE),
    "top_a": Refusal((0,), SAMPLING_ELSEWHERE),
    "mirostat": Refusal((0,), SAMPLING_ELSEWHERE),
    "no_repeat_ngram_size": Refusal((0,), SAMPLING_ELSEWHERE),
    "logits_processors": Refusal(([],), SAMPLING_ELSEWHERE),
    "stop_token_ids": Refusal(([],), "stop takes strings, the names of special tokens too"),
    "bad_words": Refusal(([],), "logit_bias of -100 keeps a token out"),
    "allowed_token_ids": Refusal((), "logit_bias is what this server knows"),
    "include_stop_str_in_output": Refusal((False,), "a stop string is never part of the answer"),
    "skip_special_tokens": Refusal((True,), "special tokens are never part of the answer"),
    "top_logprobs": Refusal((), "on this route logprobs is the number of tokens to report"),
    "prompt_logprobs": Refusal((False,), "only tokens of the answer have log-probabilities here"),
    "return_tokens_as_token_ids": Refusal((False,), "POST /tokenize gives ids"),
    "return_token_ids": Refusal((False,), "POST /tokenize gives ids"),
    "guided_json": Refusal((), CONSTRAINED),
    "guided_regex": Refusal((), CONSTRAINED),
    "guided_choice": Refusal((), CONSTRAINED),
    "guided_grammar": Refusal((), CONSTRAINED),
    "structured_outputs": Refusal((), CONSTRAINED),
}
# What the two old routes do not have.
OLD_ROUTES = {
    "messages": Refusal((), NEWER),
    "stop": Refusal(([], ""), NEWER),
    "seed": Refusal((), NEWER),
    "n": Refusal((1,), NEWER),
    "presence_penalty": Refusal((0,), NEWER),
    "frequency_penalty": Refusal((0,), NEWER),
    "repetition_penalty": Refusal((1,), NEWER),
    "logit_bias": Refusal(({},), NEWER),
    "ignore_eos": Refusal((False,), NEWER),
    "response_format": Refusal(({"type": "text"},), NEWER),
    "logprobs": Refusal((False,), NEWER),
    "chat_template_kwargs": Refusal(({},), NEWER),
    "reasoning_effort": Refusal((), NEWER),
    "add_generation_prompt": Refusal((True,), NEWER),
    "continue_final_message": Refusal((False,), NEWER),
    "stream": Refusal((False,), "this route does not stream: /v1/chat/completions does"),
    "ref": Refusal(({}, {"enable": False}), "nothing is searched here: put what was found into the prompt"),
}
# What a message of the conversation may say that no text can tell the model.
MESSAGE = {
    "tool_calls": Refusal(([],), TOOLS),
    "function_call": Refusal((), TOOLS),
    "audio": Refusal((), TEXT_ONLY),
}


def check(table: Mapping[str, Refusal], given: Mapping[str, Any]) -> None:
    """Raise ValidationError for the first parameter that a table refuses."""
    for name in given:
        if name in table and not any(_same(given[name], value) for value in table[name].neutral):
            raise fault(name, table[name].sentence, given[name])


def _same(given: object, value: object) -> bool:
    """Return whether two values are the same in JSON: in Python 0 is False too, and 1 is True."""
    if isinstance(given, dict) and isinstance(value, dict):
        return given.keys() == value.keys() and all(_same(given[name], value[name]) for name in value)
    return given == value and isinstance(given, bool) == isinstance(value, bool)


def fault(name: str, sentence: str, given: object) -> ValidationError:
    """Return the error of one parameter, for a validator of the whole to raise."""
    kind = PydanticCustomError("refused", "{sentence}", {"sentence": sentence})
    return ValidationError.from_exception_data("refused", [InitErrorDetails(type=kind, loc=(name,), input=given)])
