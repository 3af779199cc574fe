"""How bodies are read: JSON to the letter, and a key whose value is null is a key that is not there."""

from __future__ import annotations

import asyncio
import json
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from llmserving import words
from llmserving.api.callers import CALLER, beside
from llmserving.api.fields import tell_what_is_ignored
from llmserving.errors import ApiError, bad_request

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.responses import Response

Model = TypeVar("Model", bound=BaseModel)

BODY_SECONDS = 300.0  # for a whole body: 14 kB a second for the largest
OFF_THE_LOOP = 2**16  # bytes: a longer body is read in a thread, so that the loop goes on meanwhile
READERS = ThreadPoolExecutor(2, thread_name_prefix="body")  # of their own: a body may take thirty times its size
MENDABLE = 2**16  # bytes: nobody writes a longer body by hand
HALF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")  # or a whole one
JSON_SCHEMA = "schema"  # in it null is a value: {"enum": ["a", null]}, {"default": null}


class JsonRoute(APIRoute):
    """A route whose body is read by this module before FastAPI sees it, which finds nothing left to do.

    What waits for a thread before there is an answer, such as to render a conversation, ends with its caller.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler, given a body that has been read."""
        handle = super().get_route_handler()
        kind: Any = self.body_field and self.body_field.field_info.annotation

        async def handler(request: Request) -> Response:
            CALLER.set(request.receive)
            if kind is None:
                return await handle(request)
            _check_content_type(request)
            return await handle(_ReadRequest(request, await read(kind, await body_of(request))))

        return handler


async def body_of(request: Request) -> bytes:
    """Return a request's body; the request itself, which lives as long as its answer, keeps nothing of it.

    Raise ApiError 408 for one that does not come to its end: what has come of it takes room.
    """
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return b"".join([chunk async for chunk in request.stream()])
    except TimeoutError:
        raise ApiError(408, f"the body has not come whole within {BODY_SECONDS:g} seconds") from None


class _ReadRequest(Request):
    def __init__(self, request: Request, value: BaseModel) -> None:
        super().__init__(request.scope, request.receive)
        self._value = value

    async def body(self) -> bytes:
        return b"read"  # anything but nothing: FastAPI then asks for the value

    async def json(self) -> BaseModel:
        return self._value


def _check_content_type(request: Request) -> None:
    """Refuse what a page of another origin may send without asking first."""
    kind, _, more = request.headers.get("content-type", "").partition(";")[0].strip().lower().partition("/")
    if kind != "application" or not (more == "json" or more.endswith("+json")):
        raise bad_request("the body is not JSON, it seems: Content-Type: application/json says that it is")


async def read(kind: type[Model], raw: bytes, parser: Callable[[bytes], Any] | None = None) -> Model:
    """Return the request in a body, a long one read beside the loop; raise ApiError 400."""
    work = partial(_read, kind, raw, parser or parse)
    return work() if len(raw) < OFF_THE_LOOP else await beside(work, READERS)


def _read(kind: type[Model], raw: bytes, parser: Callable[[bytes], Any]) -> Model:
    try:
        value = parser(raw)
    except JSONDecodeError as error:
        place = f" (character {error.pos})" if error.pos else ""
        raise bad_request(f"the body is not JSON: {error.msg}{place}") from error
    try:
        body = kind.model_validate(value)
    except ValidationError as error:
        raise bad_request(*words.describe(error.errors(), value)) from error
    tell_what_is_ignored(body)
    return body


def parse(raw: bytes) -> Any:  # noqa: ANN401
    """Return the value of a body of JSON without its nulls; raise JSONDecodeError that says what is wrong."""
    try:
        value = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_object, parse_constant=_refuse_constant)
        if HALF_A_PAIR.search(raw):
            _refuse_half_pairs(value)
    except JSONDecodeError:
        raise
    except RecursionError:
        raise JSONDecodeError("it is nested too deeply", "", 0) from None
    except UnicodeDecodeError as error:
        raise JSONDecodeError("it is not UTF-8", "", error.start) from None
    except ValueError:  # Python's own bound on the digits of an integer: to convert them takes quadratic time
        raise JSONDecodeError("a number in it has thousands of digits", "", 0) from None
    if b"null" in raw:
        _drop_nulls(value)
    return value


def parse_forgiving(raw: bytes) -> Any:  # noqa: ANN401
    """Return the same, of a body that may have one comma too many before a closing bracket: the documented one has."""
    try:
        return parse(raw)
    except JSONDecodeError as error:
        if len(raw) > MENDABLE or (mended := _without_comma(error)) is None:
            raise
        return parse(mended)


def _without_comma(error: JSONDecodeError) -> bytes | None:
    """Return the text without the comma that the parser stumbled over, None if that was something else."""
    before, after = error.doc[: error.pos].rstrip(), error.doc[error.pos :].lstrip()
    if after.startswith(","):  # newer Pythons point at the comma, older ones at what follows it
        before, after = f"{before},", after[1:].lstrip()
    return f"{before[:-1]}{after}".encode() if before.endswith(",") and after[:1] in {"}", "]"} else None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise JSONDecodeError(f"the key {words.dotted([twice])!r} is given twice in one object", "", 0)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise JSONDecodeError(f"{name} is no number of JSON", "", 0)


def _refuse_half_pairs(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise JSONDecodeError("it has half a surrogate pair, which is no character", "", 0) from None


def _drop_nulls(value: Any) -> None:  # noqa: ANN401
    """Take the keys without a value out of every object, however deep."""
    left = [value]
    while left:
        here = left.pop()
        if isinstance(here, dict):
            for name in [name for name, one in here.items() if one is None]:
                del here[name]
            left.extend(one for name, one in here.items() if name != JSON_SCHEMA)
        elif isinstance(here, list):
            left.extend(here)
