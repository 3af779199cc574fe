"""Speak to a Kubernetes API server: JSON in and out, one deadline for each request, nothing retried behind one's back.

Address, CA and token are read by `login`. The requests are urllib3's, since the `kubernetes` package re-reads a token
by the wall clock, not after a 401, and not at all when the file is away for a moment.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes, urlencode

import urllib3

from rayproxy.kube.listing import Listing
from rayproxy.objects import array, text

JSON = "application/json"
MAX_BODY = 32 * 1024 * 1024  # bytes of an answer, or of an event; of a list it is its objects that are bounded

# A connection whose other end vanished is noticed after 30 + 3 * 10 s.
_KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
]


@dataclass(frozen=True)
class Deadlines:
    """Say how long to wait, in seconds: for a connection, through silence, and for a whole answer (not a watch).

    `busy` is how long in all a server that has no time now (429) is asked again, as often as it wishes.
    """

    connect: float = 5.0
    silence: float = 30.0
    whole: float = 60.0
    busy: float = 0.0


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


class CredentialsError(Exception):
    """Say that there is no usable kubeconfig or service account, and what to do."""


@dataclass(frozen=True)
class Login:
    """Hold where the API server is and how to be let in; equal `tls` means an equal TLS context."""

    host: str
    authorization: str = ""
    tls: tuple[bytes, bytes, bytes, bool, str] = (b"", b"", b"", True, "")  # CA, certificate, key, verify, server name
    client_files: tuple[str, str | None] | None = None  # certificate and key, where they can be loaded from
    proxy: str = ""
    impersonation: tuple[tuple[str, str], ...] = ()  # header fields: as whom is asked

    @property
    def place(self) -> str:
        """Return where requests go, for people: without the password of a proxy."""
        return f"{self.host} by the proxy {urllib3.util.parse_url(self.proxy).netloc}" if self.proxy else self.host


@dataclass(frozen=True)
class _Request:
    method: str
    target: str
    body: bytes | None = None
    content_type: str = ""
    silence: float | None = None  # s; where a watch differs from other requests

    def __str__(self) -> str:
        return f"{self.method} {self.target.partition('?')[0]}"


@dataclass(frozen=True)
class _Session:
    """Hold a login and the connections that were made with it; replaced as one, since several threads use it."""

    login: Login
    pool: urllib3.PoolManager


class ApiServer:
    """Send requests, with a login that is renewed in time (by `again`), after a 401, and when the CA changes."""

    def __init__(
        self,
        load: Callable[[], Login],
        refresh: float,
        deadlines: Deadlines | None = None,
        again: Callable[[], Login] | None = None,
    ) -> None:
        self._load = again or load
        self._refresh = refresh
        self._deadlines = deadlines or Deadlines()
        login = load()
        self._session = _Session(login, _pool(login))
        self._loaded = time.monotonic()  # when the last attempt began
        self._renewing = threading.Lock()
        self._failure = ""  # of the last attempt

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
                time.sleep(pause)

    def _send(self, request: _Request) -> urllib3.BaseHTTPResponse:
        self._renew(lambda: time.monotonic() - self._loaded >= self._refresh, wait=False)
        session, asked = self._session, time.monotonic()
        response = self._attempt(request, session)
        refused = response.status == HTTPStatus.UNAUTHORIZED
        if refused:  # rotated before its time: read it again, once, unless another thread has done so since
            response.close()
            self._renew(lambda: self._loaded <= asked and self._session.login == session.login, wait=True)
            response = self._attempt(request, self._session)
            refused = response.status == HTTPStatus.UNAUTHORIZED
        if response.status >= HTTPStatus.BAD_REQUEST:
            why = self._failure if refused else ""
            raise _error(request, response, time.monotonic() + self._deadlines.connect, why)
        return response

    def _attempt(self, request: _Request, session: _Session) -> urllib3.BaseHTTPResponse:
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

    def _renew(self, needed: Callable[[], bool], *, wait: bool) -> None:
        """Read the login again where that is needed, in one thread at a time: it may take a minute."""
        if self._renewing.acquire(blocking=wait):
            try:
                if needed():
                    self._load_again()
            finally:
                self._renewing.release()

    def _load_again(self) -> None:
        """Read the login again; where that fails for a moment, the old one goes on."""
        self._loaded = time.monotonic()
        old = self._session
        try:
            login = self._load()
            same = (login.tls, login.proxy) == (old.login.tls, old.login.proxy)
            pool = old.pool if same else _pool(login)
        except CredentialsError as error:
            self._failure = str(error)
            return
        self._failure = ""
        if login.authorization or not old.login.authorization:  # an empty token file is one that is being written
            self._session = _Session(login, pool)


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


def _pool(login: Login) -> urllib3.PoolManager:
    *_, server_name = login.tls
    try:
        context = _tls_context(login)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise CredentialsError(f"the CA or client certificate for {login.host} cannot be used: {error}") from error
    options: dict[str, Any] = {"ssl_context": context, "socket_options": _KEEPALIVE, "maxsize": 16}
    if server_name:
        options |= {"server_hostname": server_name, "assert_hostname": server_name}
    return _by_proxy(login, options) if login.proxy else urllib3.PoolManager(**options)


def _by_proxy(login: Login, options: dict[str, Any]) -> urllib3.PoolManager:
    try:
        address = urllib3.util.parse_url(login.proxy)
        if not address.host:
            raise urllib3.exceptions.LocationValueError("no host")
        user = b64encode(unquote_to_bytes(address.auth or "")).decode()  # urllib3's own takes Latin-1 alone
        headers = {"proxy-authorization": f"Basic {user}"} if user else None
        return urllib3.ProxyManager(login.proxy, proxy_headers=headers, **options)
    except urllib3.exceptions.LocationValueError:
        raise CredentialsError(
            f"the proxy to {login.host} (the kubeconfig's proxy-url, else HTTPS_PROXY or HTTP_PROXY) cannot be used: "
            "write http://HOST:PORT or https://HOST:PORT, SOCKS is not spoken; where no proxy is needed, take the "
            "proxy-url away, or name the server in NO_PROXY"
        ) from None


def _tls_context(login: Login) -> ssl.SSLContext:
    ca, _, _, verify, _ = login.tls
    pem = ca.decode("ascii", "ignore")  # bundles have comments in any language
    if ca and not pem:
        raise ValueError("no certificate in it")
    context = ssl.create_default_context(cadata=pem or None)
    if not verify:
        # The kubeconfig says so, once; urllib3 would say it with each request.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if login.client_files:
        context.load_cert_chain(*login.client_files)
    return context


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
