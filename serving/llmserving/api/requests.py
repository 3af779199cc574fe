"""What clients send. A parameter is honoured or refused by name: nothing is ignored but what changes no answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MAX_LOGPROBS = 20
MAX_STOPS = 16

Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
StopString = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Text = Annotated[str, StringConstraints(min_length=1)]
TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class Strict(BaseModel):
    """Refuse unknown parameters and wrong types; a number in quotes is a string."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())


class StreamOptions(Strict):
    """What a stream says beside its text."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class SamplingFields(Strict):
    """How to sample; None means as the model's authors advise (generation_config.json)."""

    temperature: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None


class OpenAIFields(SamplingFields):
    """What chat and text completions have in common."""

    model: str | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=MAX_STOPS)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    ignore_eos: bool = False
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: dict[str, Any] | None = None
    # These change no answer here.
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None

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


class TextPart(Strict):
    """A part of a message that is text; other kinds need another model."""

    type: Literal["text"]
    text: str


class Message(Strict):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None

    def plain(self) -> dict[str, str]:
        """Return the message as chat templates know it: role and text."""
        parts = self.content or ""
        text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": text} | ({"name": self.name} if self.name else {})


class ChatRequest(OpenAIFields):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None

    @property
    def top_logprobs_wanted(self) -> int | None:
        """Return how many likely tokens to report, None for no log-probabilities at all."""
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionRequest(OpenAIFields):
    """POST /v1/completions."""

    prompt: Text | TokenIds | Annotated[list[Text] | list[TokenIds], Field(min_length=1, max_length=128)]
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    echo: bool = False
    best_of: int | None = None
    suffix: None = None

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


class EmbeddingRequest(Strict):
    """POST /v1/embeddings."""

    input: Text | TokenIds | Annotated[list[Text] | list[TokenIds], Field(min_length=1, max_length=256)]
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(gt=0)] | None = None
    user: str | None = None


class TokenizeRequest(Strict):
    """POST /tokenize: a text, or a conversation."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1)] | None = None
    add_special_tokens: bool = True
    add_generation_prompt: bool = True
    return_token_strs: bool = False


class DetokenizeRequest(Strict):
    """POST /detokenize."""

    model: str | None = None
    tokens: list[Annotated[int, Field(ge=0)]]


class InferenceRequest(SamplingFields):
    """POST /inference."""

    input: Text


class ZhipuMessage(Strict):
    """One message of the Zhipu protocol."""

    role: Literal["system", "user", "assistant"]
    content: str


class ZhipuRequest(SamplingFields):
    """POST /embeddings/QuestionAnswer."""

    prompt: Text | Annotated[list[ZhipuMessage], Field(min_length=1)]
    temperature: Annotated[float, Field(ge=0, le=1)] | None = 0.95
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 0.7
    incremental: bool = True
    stream: bool | None = None
    request_id: Annotated[str, StringConstraints(pattern=r"^[\w.:-]{1,128}$")] | None = None
    # The front end's own, and the way it used to name the transport: `stream` decides.
    secretKey: str | None = Field(None, repr=False)  # noqa: N815 - the protocol's name
    invoke_method: Literal["invoke", "async-invoke", "sse-invoke", "sync", "async", "sse"] | None = None
    model: str | None = None
    return_type: Literal["text"] | None = None
    sseFormat: Literal["data"] | None = None  # noqa: N815 - the protocol's name

    @property
    def messages(self) -> list[dict[str, str]]:
        """Return the conversation as chat templates know it."""
        if isinstance(self.prompt, str):
            return [{"role": "user", "content": self.prompt}]
        return [message.model_dump() for message in self.prompt]
