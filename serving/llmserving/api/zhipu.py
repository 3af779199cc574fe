"""POST /embeddings/QuestionAnswer: the Zhipu v3 protocol, whole or as its event stream."""

from __future__ import annotations

import hmac
import uuid
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from llmserving.api import sse
from llmserving.api.answer import GenerationResponse
from llmserving.api.body import JsonRoute
from llmserving.api.openai_format import usage_numbers
from llmserving.api.requests import ZhipuRequest
from llmserving.api.sequences import encode_chat, sampling
from llmserving.errors import ApiError
from llmserving.generation import SequenceRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmserving.api.answer import Usage
    from llmserving.generation import Delta, Result
    from llmserving.server import Server

CUT_SHORT = 504
# What the protocol documents for a request that says nothing: where the model's authors advise none of ADVICE.
DEFAULTS = {"temperature": 0.95, "top_p": 0.7}
ADVICE = ("temperature", "top_p", "top_k", "min_p")
STEPS = 64  # a whole text is sent again once it has grown by one part in so many


class ZhipuFormat:
    """Events `add`, then `finish` with the usage; `interrupted` or `error` where it cannot go on.

    `incremental`: each event has the new text; otherwise the whole text so far, which a long one has to outgrow by a
    part of itself: with each token of it again, one answer would be gigabytes.
    """

    def __init__(self, request_id: str | None, *, incremental: bool) -> None:
        self._task_id = uuid.uuid4().hex
        self._request_id = request_id or self._task_id
        self._incremental = incremental
        self._text = ""
        self._sent = 0  # characters of it

    def whole(self, results: Sequence[Result], usage: Usage) -> dict[str, Any]:
        """Return the JSON of a finished answer."""
        choices = [{"role": "assistant", "content": result.text} for result in results]
        data = {**self._meta(usage), "choices": choices}
        return {"code": 200, "msg": "操作成功", "success": True, "data": data}

    def start(self) -> bytes:
        """Return nothing: the first event is text."""
        return b""

    def delta(self, delta: Delta, usage: Usage) -> bytes:  # noqa: ARG002 - the usage comes with `finish`
        """Return the event of new text."""
        self._text += delta.text
        enough = self._incremental or (len(self._text) - self._sent) * STEPS >= len(self._text)
        return self._unsent() if enough else b""

    def _unsent(self) -> bytes:
        """Return the event of the text that no event has had."""
        if self._sent == len(self._text):
            return b""
        text = self._text[self._sent :] if self._incremental else self._text
        self._sent = len(self._text)
        return sse.event("add", self._task_id, text)

    def end(self, usage: Usage) -> bytes:
        """Return the event that ends the stream and says what it cost."""
        return self._unsent() + sse.event("finish", self._task_id, "", meta=sse.to_json(self._meta(usage)))

    def failure(self, error: ApiError) -> bytes:
        """Return the event of an answer that was cut short, or of an error."""
        kind = "interrupted" if error.status == CUT_SHORT else "error"
        return self._unsent() + sse.event(kind, self._task_id, error.message)

    def _meta(self, usage: Usage) -> dict[str, Any]:
        return {
            "request_id": self._request_id,
            "task_id": self._task_id,
            "task_status": "SUCCESS",
            "usage": usage_numbers(usage),
        }


def router(server: Server) -> APIRouter:
    """Return the route."""
    routes = APIRouter(route_class=JsonRoute)

    @routes.post("/embeddings/QuestionAnswer", response_model=None)
    async def question_answer(body: ZhipuRequest, *, stream: bool | None = None) -> GenerationResponse:
        check_key(server, body.secretKey)
        prompt = await encode_chat(server, body.messages)
        how = sampling(server, body, prompt, body.max_tokens, _unsaid(server, body))
        sequence = SequenceRequest(0, tuple(prompt), how)
        form = ZhipuFormat(body.request_id, incremental=body.incremental)
        wanted = body.stream if stream is None else stream
        return GenerationResponse(server, [sequence], form, stream=bool(wanted))

    return routes


def _unsaid(server: Server, body: ZhipuRequest) -> dict[str, float]:
    """Return the protocol's defaults of what neither a request nor the model's authors say."""
    if any(name in server.defaults for name in ADVICE):
        return {}
    return {name: value for name, value in DEFAULTS.items() if getattr(body, name) is None}


def check_key(server: Server, given: str | None) -> None:
    """Raise ApiError 401 unless the key is the configured one, if one is; in a time that tells nothing of it."""
    expected = server.settings.secret_key
    if expected is None:
        return
    if not hmac.compare_digest((given or "").encode(), expected.get_secret_value().encode()):
        raise ApiError(401, "secretKey: missing or wrong", param="secretKey")
