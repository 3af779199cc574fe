"""What clients send. A parameter is honoured or refused by name: nothing is ignored but what changes no answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from llmserving.api.fields import (
    Count,
    Lists,
    Penalty,
    Refusing,
    StopString,
    Strict,
    Text,
    Texts,
    TokenId,
    TokenIds,
    Whole,
    at_most,
    prompts_at_most,
)
from llmserving.api.messages import Message, TemplateOptions, ZhipuMessage
from llmserving.api.refused import OLD_ROUTES, PROMPT, SAMPLING, TOOLS, fault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmserving.api.refused import Refusal

MAX_LOGPROBS = 20
MAX_STOPS = 16
MAX_MESSAGES = 2048  # more is no conversation; templates may look at each message for each
MAX_PARTS = 8192  # in all of them
MAX_BIASES = 1024
MAX_PROMPTS = 128
MAX_INPUTS = 256


def _few_parts(value: Any) -> Any:  # noqa: ANN401
    """Refuse messages that have too many parts in all, before any is looked at."""
    contents = (one.get("content") for one in value if isinstance(one, dict)) if isinstance(value, list) else ()
    if sum(len(content) for content in contents if isinstance(content, list)) > MAX_PARTS:
        raise PydanticCustomError("parts", "they have at most {most} parts in all", {"most": MAX_PARTS})
    return value


Messages = Annotated[
    list[Message], Field(min_length=1, fail_fast=True), BeforeValidator(_few_parts), at_most(MAX_MESSAGES)
]
Bias = Annotated[float, Field(ge=-100, le=100)]


def _token_id(key: str) -> str:
    if not re.fullmatch("0|[1-9][0-9]{0,9}", key):
        raise PydanticCustomError("token_id", "a key of it is a token's id: a whole number, in quotes")
    return key


def _response_format(value: dict[str, Any]) -> dict[str, Any]:
    """Refuse what is no response format; whether the engine can do it is known later."""
    kinds = ("text", "json_object", "json_schema")
    if value.get("type") not in kinds:
        raise PydanticCustomError("response_format", "its type is one of {kinds}", {"kinds": ", ".join(kinds)})
    described = value.get("json_schema")
    if value["type"] == "json_schema" and not (
        isinstance(described, dict) and isinstance(described.get("schema"), dict)
    ):
        raise PydanticCustomError("response_format", "a json_schema comes with its schema, an object")
    return value


class StreamOptions(Strict):
    """What a stream says beside its text."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class SamplingFields(Refusing):
    """How to sample; None means as the model's authors advise (generation_config.json)."""

    refusals: ClassVar[Mapping[str, Refusal]] = PROMPT | SAMPLING

    temperature: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1), Whole] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_tokens: Count | None = None


class OpenAIFields(SamplingFields):
    """What chat and text completions have in common."""

    model: str | None = None
    stop: Annotated[StopString | Annotated[list[StopString], Field(fail_fast=True)], at_most(MAX_STOPS)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63), Whole] | None = None
    n: Annotated[int, Field(ge=1, le=128), Whole] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None
    logit_bias: Annotated[dict[Annotated[str, AfterValidator(_token_id)], Bias], at_most(MAX_BIASES)] | None = None
    ignore_eos: bool = False
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: Annotated[dict[str, Any], AfterValidator(_response_format)] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """Return the stop strings as a tuple."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def top_logprobs_wanted(self) -> int | None:
        """Return how many likely tokens to report, None for no log-probabilities at all."""
        raise NotImplementedError


class TemplateFields(Refusing):
    """What a chat template is told beside the messages."""

    chat_template_kwargs: TemplateOptions | None = None
    reasoning_effort: Annotated[str, StringConstraints(max_length=64)] | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False

    @property
    def template_options(self) -> dict[str, Any]:
        """Return what the template may read: the names are the caller's own."""
        effort = {} if self.reasoning_effort is None else {"reasoning_effort": self.reasoning_effort}
        return {**(self.chat_template_kwargs or {}), **effort}

    @model_validator(mode="after")
    def _begin_or_continue(self) -> Self:
        if self.continue_final_message and self.add_generation_prompt:
            text = "only with add_generation_prompt set to false"
            raise fault("continue_final_message", text, self.continue_final_message)
        return self


class ChatRequest(TemplateFields, OpenAIFields):
    """POST /v1/chat/completions."""

    messages: Messages
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS), Whole] | None = None
    tools: list[Any] | None = None
    tool_choice: Literal["none", "auto"] | None = None

    @model_validator(mode="after")
    def _call_no_tool(self) -> Self:
        if self.tools and self.tool_choice != "none":  # with "none" they change no text
            raise fault("tools", TOOLS, self.tools)
        return self

    @property
    def top_logprobs_wanted(self) -> int | None:
        """Return how many likely tokens to report, None for no log-probabilities at all."""
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionRequest(OpenAIFields):
    """POST /v1/completions."""

    prompt: Annotated[
        Text | TokenIds | Annotated[Texts | Lists, Field(min_length=1)],
        prompts_at_most(MAX_PROMPTS),
    ]
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS), Whole] | None = None
    echo: bool = False
    best_of: Count | None = None

    @property
    def top_logprobs_wanted(self) -> int | None:
        """Return how many likely tokens to report, None for no log-probabilities at all."""
        return self.logprobs

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """Return the prompts as a list, whatever of the four ways they came in."""
        prompt: Any = self.prompt
        one = isinstance(prompt, str) or isinstance(prompt[0], int)
        return [prompt] if one else prompt


class EmbeddingRequest(Refusing):
    """POST /v1/embeddings."""

    refusals: ClassVar[Mapping[str, Refusal]] = PROMPT

    input: Annotated[
        Text | TokenIds | Annotated[Texts | Lists, Field(min_length=1)],
        prompts_at_most(MAX_INPUTS),
    ]
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Count | None = None


class TokenizeRequest(TemplateFields):
    """POST /tokenize: a text, or a conversation."""

    refusals: ClassVar[Mapping[str, Refusal]] = PROMPT

    model: str | None = None
    prompt: str | None = None
    messages: Messages | None = None
    add_special_tokens: bool = True
    return_token_strs: bool = False


class DetokenizeRequest(Refusing):
    """POST /detokenize."""

    model: str | None = None
    tokens: Annotated[list[TokenId], Field(fail_fast=True)]


class InferenceRequest(SamplingFields):
    """POST /inference."""

    refusals: ClassVar[Mapping[str, Refusal]] = PROMPT | SAMPLING | OLD_ROUTES

    input: Text


class ZhipuRequest(SamplingFields):
    """POST /embeddings/QuestionAnswer."""

    refusals: ClassVar[Mapping[str, Refusal]] = PROMPT | SAMPLING | OLD_ROUTES

    prompt: Annotated[Text | Annotated[list[ZhipuMessage], Field(min_length=1, fail_fast=True)], at_most(MAX_MESSAGES)]
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    incremental: bool = True
    stream: bool | None = None
    request_id: Annotated[str, StringConstraints(pattern=r"^[\w.:-]{1,128}$")] | None = None
    # The front end's own, and the way it used to name the transport: `stream` decides.
    secretKey: str | None = Field(None, repr=False)  # noqa: N815 - the protocol's name
    invoke_method: Literal["invoke", "async-invoke", "sse-invoke", "sync", "async", "sse"] | None = None
    return_type: Literal["text"] | None = None
    sseFormat: Literal["data"] | None = None  # noqa: N815 - the protocol's name

    @property
    def messages(self) -> list[dict[str, str]]:
        """Return the conversation as chat templates know it."""
        if isinstance(self.prompt, str):
            return [{"role": "user", "content": self.prompt}]
        return [message.plain() for message in self.prompt]
