"""How to be let in at an API server: a login, the connections that are made with it, and when it is read again."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import urllib3

# A connection whose other end vanished is noticed after 30 + 3 * 10 s.
_KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
]


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
class Session:
    """Hold a login and the connections that were made with it; replaced as one, since several threads use it."""

    login: Login
    pool: urllib3.PoolManager


class Sessions:
    """The session that counts, and why there is no newer one (`failure`), where that was tried and failed."""

    def __init__(self, load: Callable[[], Login], again: Callable[[], Login], refresh: float) -> None:
        """Log in by `load`, and every `refresh` seconds by `again`; raise CredentialsError."""
        login = load()
        self.current = Session(login, _pool(login))
        self.failure = ""
        self._load = again
        self._refresh = refresh
        self._loaded = time.monotonic()  # when the last attempt began
        self._renewing = threading.Lock()

    def renew_when_due(self) -> None:
        """Log in again where it is time for that, and no other thread does so now."""
        self._renew(lambda: time.monotonic() - self._loaded >= self._refresh, wait=False)

    def renew_after_refusal(self, session: Session, asked: float) -> None:
        """Log in again, unless another thread has done so since a session `asked` (monotonic s) that was refused."""
        self._renew(lambda: self._loaded <= asked and self.current.login == session.login, wait=True)

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
        old = self.current
        try:
            login = self._load()
            same = (login.tls, login.proxy) == (old.login.tls, old.login.proxy)
            pool = old.pool if same else _pool(login)
        except CredentialsError as error:
            self.failure = str(error)
            return
        self.failure = ""
        # Nothing in the place of a token is a token file that is being written, but where a certificate has come.
        came = login.client_files and not old.login.client_files
        if login.authorization or came or not old.login.authorization:
            self.current = Session(login, pool)


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
