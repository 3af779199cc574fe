"""Errors as every route answers them: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from llmserving import words
from llmserving.engines.base import EngineDeadError, SequenceError

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

log = logging.getLogger(__name__)

CLIENT_GONE = 499  # as nginx has it
TYPES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    404: "NotFoundError",
    405: "MethodNotAllowedError",
    408: "RequestTimeoutError",
    413: "RequestTooLargeError",
    429: "RateLimitError",
    500: "InternalServerError",
    503: "ServiceUnavailableError",
    504: "TimeoutError",
}


class ApiError(Exception):
    """A request that gets an error for an answer; `retry_after` in seconds goes into the header."""

    def __init__(self, status: int, message: str, *, param: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}

    def body(self) -> dict[str, Any]:
        """Return the answer's JSON."""
        kind = TYPES.get(self.status) or HTTPStatus(self.status).phrase
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.status}}


def bad_request(message: str, param: str | None = None) -> ApiError:
    """Return the error for a request that can never be answered as it stands."""
    return ApiError(400, message, param=param)


def of_exception(error: BaseException) -> ApiError:
    """Return what a client is told of an unforeseen error: nothing of the inside; that goes to the log."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, EngineDeadError):
        return ApiError(503, "the engine died; another replica takes its place", retry_after=10)
    if isinstance(error, SequenceError):
        log.warning("an answer could not go on: %s", error)
        return ApiError(500, f"the answer cannot go on: {error}")
    log.error("a request failed", exc_info=error)
    return ApiError(500, "the server failed while it worked on this request; its log says why")


def install(app: FastAPI) -> None:
    """Make every error of the application, its router's and its validation's too, have the one shape."""
    app.add_exception_handler(ApiError, _answer)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(EngineDeadError, _unforeseen)
    app.add_exception_handler(SequenceError, _unforeseen)
    app.add_exception_handler(Exception, _unforeseen)


def response(error: ApiError) -> JSONResponse:
    """Return the error as a response."""
    return JSONResponse(error.body(), error.status, headers=error.headers)


async def _answer(_: Request, error: Any) -> JSONResponse:  # noqa: ANN401 - the handlers' common type
    return response(error)


async def _gone(_: Request, __: Exception) -> Response:
    """Answer nobody, who hung up before there was an answer: it is counted, and nothing failed."""
    return Response(status_code=CLIENT_GONE)


async def _unforeseen(_: Request, error: Any) -> JSONResponse:  # noqa: ANN401
    return response(of_exception(error))


async def _invalid(_: Request, error: Any) -> JSONResponse:  # noqa: ANN401
    """Answer for what FastAPI found: in the query, since the routes read their bodies themselves."""
    problems = [{**one, "loc": one["loc"][1:]} for one in error.errors()]
    return response(bad_request(*words.describe(problems, {problems[0]["loc"][0]: problems[0]["input"]})))


async def _http(request: Request, error: Any) -> JSONResponse:  # noqa: ANN401
    message = f"{error.detail}: {request.method} {request.url.path}"
    answer = response(ApiError(error.status_code, message))
    answer.headers.update(error.headers or {})
    return answer
