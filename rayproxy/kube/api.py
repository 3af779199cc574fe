"""Speak to a Kubernetes API server: JSON in and out, one deadline for each request, nothing retried behind one's back.

A command alone asks again where the server has no time now (`Deadlines.busy`). Address, CA and token are read by
`login`. The requests are urllib3's, since the `kubernetes` package re-reads a token by the wall clock, not after a
401, and not at all when the file is away for a moment.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import urllib3

from rayproxy.kube.listing import Listing
from rayproxy.kube.session import Login, Session, Sessions
from rayproxy.objects import array, text

JSON = "application/json"
MAX_BODY = 32 * 1024 * 1024  # bytes of an answer, or of an event; of a list it is its objects that are bounded


@dataclass(frozen=True)
class Deadlines:
    """Say how long to wait, in seconds: for a connection, through silence, and for a whole answer (not a watch).

    `busy` is how long in all a server that has no time now (429) is asked again, when it wishes.
    """

    connect: float = 5.0
    silence: float = 30.0
    whole: float = 60.0
    busy: float = 0.0


# A person asks once; kubectl asks again ten times, as a rule after a second each.
PATIENT = Deadlines(busy=10.0)
LEAST_PAUSE = 0.5  # s before it is asked again, whatever it wishes


@dataclass(frozen=True)
class Cause:
    """One of several reasons that the API server gives: `kind` is its word for it."""

    kind: str
    field: str
    message: str


class ApiError(Exception):
    """Say what the API server answered instead of success; `status` is 0 where no answer came."""

    def __init__(self, message: str, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.causes: tuple[Cause, ...] = ()


class GarbledError(ApiError):
    """Say that an answer came and cannot be understood: what it said is lost."""


@dataclass(frozen=True)
class _Request:
    method: str
    target: str
    body: bytes | None = None
    content_type: str = ""
    silence: float | None = None  # s; where a watch differs from other requests

    def __str__(self) -> str:
        return f"{self.method} {self.target.partition('?')[0]}"


class ApiServer:
    """Send requests, with a login that is renewed in time (by `again`), after a 401, and when the CA changes."""

    def __init__(
        self,
        load: Callable[[], Login],
        refresh: float,
        deadlines: Deadlines | None = None,
        again: Callable[[], Login] | None = None,
    ) -> None:
        self._deadlines = deadlines or Deadlines()
        self._sessions = Sessions(load, again or load, refresh)

    def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return a GET's JSON object; raise ApiError."""
        return self._whole(_Request("GET", _target(path, query)))

    def list(self, path: str, query: Mapping[str, str]) -> Page:
        """Ask for one page of a list, whose objects are read as they are iterated over; both raise ApiError."""
        request = _Request("GET", _target(path, query))
        deadline = time.monotonic() + self._deadlines.whole
        return Page(request, self._send(request), deadline)

    def send(
        self,
        method: str,
        path: str,
        body: object,
        query: Mapping[str, str] | None = None,
        content_type: str = JSON,
    ) -> dict[str, Any]:
        """Send a JSON body (POST, PATCH, PUT, DELETE) and return the JSON object that comes back; raise ApiError."""
        return self._whole(_Request(method, _target(path, query), json.dumps(body).encode(), content_type))

    def watch(self, path: str, query: Mapping[str, str], silence: float) -> Generator[dict[str, Any], None, None]:
        """Open a watch and return its events; both raise ApiError, the events after `silence` s without a byte."""
        request = _Request("GET", _target(path, query), silence=silence)
        return _events(request, self._send(request))

    def _whole(self, request: _Request) -> dict[str, Any]:
        end = time.monotonic() + self._deadlines.busy
        while True:
            deadline = time.monotonic() + self._deadlines.whole
            try:
                return _json(request, _read(request, self._send(request), deadline))
            except ApiError as error:
                pause = error.retry_after if error.status == HTTPStatus.TOO_MANY_REQUESTS else None
                if pause is None or not 0 <= pause <= end - time.monotonic():
                    raise
                time.sleep(max(pause, LEAST_PAUSE))

    def _send(self, request: _Request) -> urllib3.BaseHTTPResponse:
        self._sessions.renew_when_due()
        session, asked = self._sessions.current, time.monotonic()
        response = self._attempt(request, session)
        if response.status == HTTPStatus.UNAUTHORIZED:
            response.close()
            self._sessions.renew_after_refusal(session, asked)
            response = self._attempt(request, self._sessions.current)
        if response.status >= HTTPStatus.BAD_REQUEST:
            why = self._sessions.failure if response.status == HTTPStatus.UNAUTHORIZED else ""
            raise _error(request, response, time.monotonic() + self._deadlines.connect, why)
        return response

    def _attempt(self, request: _Request, session: Session) -> urllib3.BaseHTTPResponse:
        silence = request.silence or self._deadlines.silence
        login = session.login
        headers = urllib3.HTTPHeaderDict({"Accept": "application/json", "User-Agent": "rayproxy"})
        for name, value in login.impersonation:
            headers.add(name, value)
        if login.authorization:
            headers["Authorization"] = login.authorization
        if request.content_type:
            headers["Content-Type"] = request.content_type
        try:
            # The manager of proxies has one of its own, which makes one field of several of one name: another group.
            return urllib3.PoolManager.urlopen(
                session.pool,
                request.method,
                login.host + request.target,
                body=request.body,
                headers=headers,
                timeout=urllib3.Timeout(connect=self._deadlines.connect, read=silence),
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiError(f"{request} at {login.place}: {_words(error)}") from error


class Page:
    """One page of a list. Its objects are held one at a time; `metadata` and `size` (bytes) are there at the end."""

    def __init__(self, request: _Request, response: urllib3.BaseHTTPResponse, deadline: float) -> None:
        self.size = 0
        self._request = request
        self._chunks = _chunks(request, response, deadline)
        self._listing = Listing(self._counted())

    @property
    def metadata(self) -> dict[str, Any]:
        """Return the list's own metadata."""
        return self._listing.metadata

    def __iter__(self) -> Iterator[object]:
        """Yield the objects; raise ApiError where the answer breaks off, GarbledError where it is no list."""
        with closing(self._chunks):
            try:
                yield from self._listing
            except (ValueError, RecursionError) as error:
                raise GarbledError(f"{self._request}: the answer is not a list: {str(error)[:200]}") from error

    def _counted(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.size += len(chunk)
            yield chunk


def _target(path: str, query: Mapping[str, str] | None) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _chunks(request: _Request, response: urllib3.BaseHTTPResponse, deadline: float) -> Generator[bytes, None, None]:
    """Yield the body as it comes; one that is not read to its end takes its connection with it."""
    ended = False
    try:
        while chunk := response.read1(1 << 20):
            yield chunk
            if time.monotonic() > deadline:
                raise ApiError(f"{request}: the answer did not end in time")
        ended = True
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ApiError(f"{request}: {_words(error)}") from error
    finally:
        response.release_conn() if ended else response.close()


def _read(request: _Request, response: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
    chunks: list[bytes] = []
    size = 0
    with closing(_chunks(request, response, deadline)) as stream:
        for chunk in stream:
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_BODY:
                raise ApiError(f"{request}: the answer is larger than {MAX_BODY} bytes")
    return b"".join(chunks)


def _events(request: _Request, response: urllib3.BaseHTTPResponse) -> Generator[dict[str, Any], None, None]:
    rest = b""
    try:
        while chunk := response.read1(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (_json(request, line) for line in lines if line.strip())
            if len(rest) > MAX_BODY:
                raise ApiError(f"{request}: an event is larger than {MAX_BODY} bytes")
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ApiError(f"{request} (watch): {_words(error)}") from error
    finally:
        response.close()  # what is left in `rest` is half an event: the next watch delivers it whole


def _error(request: _Request, response: urllib3.BaseHTTPResponse, deadline: float, not_renewed: str) -> ApiError:
    try:
        body = _read(request, response, deadline)
    except ApiError:
        body = b""
    try:
        status = json.loads(body)
        message = str(status["message"])
    except (ValueError, KeyError, TypeError, RecursionError):  # "404 page not found" is plain text
        status, message = None, body[:200].decode(errors="replace").strip()
    try:
        retry_after = float(response.headers.get("Retry-After", ""))
    except ValueError:
        retry_after = None
    why = f"; the login could not be renewed: {not_renewed}" if not_renewed else ""
    error = ApiError(f"{request}: {response.status} {message}{why}", response.status, retry_after)
    error.causes = tuple(_causes(status))
    return error


def _causes(status: object) -> Iterator[Cause]:
    for each in array(status, "details", "causes"):
        yield Cause(text(each, "reason"), text(each, "field"), text(each, "message"))


def _json(request: _Request, text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GarbledError(f"{request}: the answer is not JSON: {text[:80]!r}") from error
    if not isinstance(value, dict):
        raise GarbledError(f"{request}: the answer is not a JSON object: {text[:80]!r}")
    return value


def _words(error: Exception) -> str:
    cause = error.__cause__ or error.__context__
    return f"{type(error).__name__}: {error}" if cause is None else f"{type(cause).__name__}: {cause}"
