"""How bodies are read: JSON to the letter, and a key whose value is null is a key that is not there."""

from __future__ import annotations

import asyncio
import json
import re
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any, NoReturn

from fastapi import Request
from fastapi.routing import APIRoute

from llmserving.words import dotted

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.responses import Response

OFF_THE_LOOP = 2**16  # bytes: a longer body is parsed in a thread, so that the loop goes on meanwhile
MENDABLE = 2**16  # bytes: nobody writes a longer body by hand
HALF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")  # or a whole one
JSON_SCHEMA = "schema"  # in it null is a value: {"enum": ["a", null]}, {"default": null}


class JsonRoute(APIRoute):
    """A route whose body is read by this module."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler, with another way to parse."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return handler


class _JsonRequest(Request):
    async def json(self) -> Any:  # noqa: ANN401 - whatever JSON can say
        return await in_time(parse, await self.body())


async def in_time(read: Callable[[bytes], Any], raw: bytes) -> Any:  # noqa: ANN401
    """Parse a body; a long one beside the loop."""
    return read(raw) if len(raw) < OFF_THE_LOOP else await asyncio.to_thread(read, raw)


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
        raise JSONDecodeError(f"the key {dotted([twice])!r} is given twice in one object", "", 0)
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
