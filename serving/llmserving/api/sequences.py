"""From a validated request to sequences: defaults, lengths, and what this engine cannot do."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from llmserving import rendering
from llmserving.admission import RETRY_AFTER
from llmserving.api.callers import CALLER, beside, while_there
from llmserving.engines.base import REQUESTS, FormatError, Sampling
from llmserving.errors import ApiError, bad_request
from llmserving.generation import SequenceRequest
from llmserving.overtime import CrowdedError, OvertimeError
from llmserving.rendering import ChatTemplateError
from llmserving.stops import find_stops
from llmserving.words import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from llmserving.api.requests import OpenAIFields, SamplingFields
    from llmserving.server import Server
    from llmserving.tokenizer import Tokenizer

Found = TypeVar("Found")

MOST_TOKENS = 2**31 - 1  # more than any vocabulary has: a longer number does not fit into what vLLM sends its engine
COLDEST = 0.01  # as vLLM has it: logits divided by less are no numbers any more
OFF_THE_LOOP = 4096  # characters or tokens: more are worked on in a thread, so that the loop goes on meanwhile


async def encode(server: Server, text: str, *, special: bool = True) -> list[int]:
    """Return the tokens of a text; raise ApiError 400 if they cannot fit, without counting them all."""
    check_characters(server, text)
    return await at_length(len(text), partial(server.tokenizer.encode, text, special=special))


async def encode_each(server: Server, prompts: Sequence[str | list[int]]) -> list[list[int]]:
    """Return the tokens of prompts, some of which may be tokens already; raise ApiError 400 as `encode` does."""
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    for text in texts:
        check_characters(server, text)
    read = server.tokenizer.encode
    return await at_length(
        sum(map(len, texts)), lambda: [read(one) if isinstance(one, str) else one for one in prompts]
    )


async def decode_each(server: Server, prompts: Sequence[str | list[int]]) -> list[str]:
    """Return the texts of prompts, special tokens and all; those that are texts already are as they were given."""
    read = partial(server.tokenizer.decode, special=True)
    size = sum(len(one) for one in prompts if not isinstance(one, str))
    return await at_length(size, lambda: [one if isinstance(one, str) else read(one) for one in prompts])


async def at_length(size: int, work: Callable[[], Found]) -> Found:
    """Return what the work on so many characters or tokens returns."""
    return work() if size < OFF_THE_LOOP else await beside(work)


async def encode_chat(
    server: Server, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any] | None = None
) -> list[int]:
    """Return the tokens of a conversation; raise ApiError 400 if it cannot fit or has no template."""
    check_characters(server, "".join(str(message["content"]) for message in messages))
    text = await _rendered(server, partial(server.tokenizer.render, messages, options or {}))
    return await encode(server, text, special=False)


async def _rendered(server: Server, render: Callable[[], str]) -> str:
    try:
        return await while_there(CALLER.get(), server.workshop.do(render, rendering.SECONDS))
    except ChatTemplateError as error:
        raise bad_request(str(error), "messages") from error
    except OvertimeError as error:
        text = f"the model's chat template was still at work on these messages after {rendering.SECONDS:g} seconds"
        raise bad_request(text, "messages") from error
    except CrowdedError as error:
        text = "the model's chat template is at work on other conversations, and too many wait for it"
        raise ApiError(429, text, retry_after=RETRY_AFTER) from error


def check_characters(server: Server, text: str) -> None:
    """Refuse a text that has more tokens than the context even if each were the longest there is."""
    limit = server.engine.context_length * server.tokenizer.longest_token
    if len(text) > limit:
        raise bad_request(
            f"the text has {len(text)} characters: more than the model's context of "
            f"{server.engine.context_length} tokens can hold"
        )


def check_model(server: Server, name: str | None) -> None:
    """Raise ApiError 404 for another model's name."""
    if name is not None and name != server.settings.served_name:
        raise ApiError(404, f"model: {shown(name)} is not here, GET /v1/models lists what is", param="model")


def sampling(
    server: Server,
    fields: SamplingFields,
    prompt: Sequence[int],
    max_tokens: int | None,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Sampling:
    """Return how to continue one prompt: what the request says, else what the model's authors advise."""
    requested = {name: getattr(fields, name) for name in ("temperature", "top_p", "top_k", "min_p")} | dict(more)
    values: dict[str, Any] = {
        "stop_ids": server.tokenizer.stop_ids,
        **server.defaults,
        **{name: value for name, value in requested.items() if value is not None},
    }
    values["top_k"] = min(max(0, values.get("top_k", 0)), MOST_TOKENS)  # both -1 and 0 mean all
    if 0 < values.get("temperature", 1) < COLDEST:
        values["temperature"] = COLDEST
    return Sampling(max_tokens=max_new_tokens(server, prompt, max_tokens), **values)


def max_new_tokens(server: Server, prompt: Sequence[int], max_tokens: int | None) -> int:
    """Return how many tokens may be generated; raise ApiError 400 with the counts if there is no room."""
    context = server.engine.context_length
    if not prompt:
        raise bad_request("the prompt is empty", "prompt")
    check_tokens(server.tokenizer, prompt, server.engine.vocabulary.read, "prompt")
    wanted = 1 if max_tokens is None else max_tokens
    if len(prompt) + wanted > context:
        raise bad_request(
            f"the prompt has {len(prompt)} tokens and {wanted} are to be generated, {len(prompt) + wanted} in all: "
            f"the model's context length is {context} tokens",
            "max_tokens" if len(prompt) < context else "prompt",
        )
    return context - len(prompt) if max_tokens is None else max_tokens


def check_tokens(tokenizer: Tokenizer, ids: Iterable[int], known: int, param: str) -> None:
    """Refuse token ids that the tokenizer or the model, which knows those below `known`, does not have."""
    beyond = max(ids, default=0)
    if beyond >= tokenizer.vocabulary_size:
        raise bad_request(f"{param}: token {beyond} is not among the model's {tokenizer.vocabulary_size}", param)
    if beyond >= known:
        text = tokenizer.decode([beyond], special=True)
        raise bad_request(
            f"{param}: {shown(text)} is token {beyond} of the tokenizer, and the model has {known}: it was never made "
            f"larger for the tokens that were added; leave the word out",
            param,
        )


async def openai_sequences(
    server: Server,
    body: OpenAIFields,
    prompts: Sequence[Sequence[int]],
    max_tokens: int | None,
    *,
    continues: bool,
) -> list[SequenceRequest]:
    """Return the sequences of a completion: `n` for each prompt; raise ApiError for what cannot be done."""
    check_stream_options(body)
    n = body.n or 1
    server.admission.check(len(prompts) * n)  # before anything is made that many times
    more: dict[str, Any] = {
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "repetition_penalty": body.repetition_penalty,
        "logit_bias": _biases(server, body.logit_bias or {}),
        "logprobs": body.top_logprobs_wanted,
        "schema": await _schema(server, body.response_format),
        "stop_ids": _stop_ids(server, body),
        "request": next(REQUESTS),
    }
    stops = find_stops(body.stops, server.tokenizer.special_tokens)
    sequences = []
    for place, prompt in enumerate(map(tuple, prompts)):
        how = sampling(server, body, prompt, max_tokens, more)  # once: to look at a long prompt takes its time
        for copy in range(n):
            seed = None if body.seed is None else (body.seed + copy + 2**63) % 2**64 - 2**63
            sequences.append(
                SequenceRequest(place * n + copy, prompt, replace(how, seed=seed), stops, copy, continues)
            )
    return sequences


def _stop_ids(server: Server, body: OpenAIFields) -> frozenset[int]:
    """Return the tokens that end an answer: the model's own, and special ones that are a stop string."""
    special = server.tokenizer.special_tokens
    named = frozenset(special[stop] for stop in body.stops if stop in special)
    return named if body.ignore_eos else named | server.tokenizer.stop_ids


def check_stream_options(body: OpenAIFields) -> None:
    """Refuse options of a stream where none is asked for."""
    if body.stream_options is not None and not body.stream:
        raise bad_request("stream_options: only with stream set to true", "stream_options")


def _biases(server: Server, given: Mapping[str, float]) -> dict[int, float]:
    biases = {int(token): bias for token, bias in given.items()}
    vocabulary = server.engine.vocabulary
    check_tokens(server.tokenizer, biases, min(vocabulary.read, vocabulary.chosen), "logit_bias")
    forbidden = vocabulary.of_these(server.defaults.get("suppressed", ()))
    if vocabulary.biased is not None and len(biases.keys() | forbidden) > vocabulary.biased:
        raise bad_request(
            f"logit_bias: it has {len(biases)} tokens, and {vocabulary.biased - len(forbidden)} are accepted beside "
            f"the {len(forbidden)} that the model's authors forbid",
            "logit_bias",
        )
    return biases


async def _schema(server: Server, response_format: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if response_format is None or response_format["type"] == "text":
        return None
    check = server.engine.check_format
    if check is None:
        text = f"response_format: this engine cannot do {response_format['type']!r}, only 'text'; vLLM's can"
        raise bad_request(text, "response_format")
    try:
        await beside(partial(check, response_format))
    except FormatError as error:
        raise bad_request(f"response_format: {error}", "response_format") from error
    return response_format
