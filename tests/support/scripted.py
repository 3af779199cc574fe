"""A small API server for what a real one cannot be made to do.

Left alone it lists, watches, resumes and forgets as a real one does, for one resource at each path. A test puts
replies into `lists` and `watches` for what it wants instead; each is used once, the first first.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.listener import Listener

HELD = 60.0  # s; nobody holds a connection for longer than a test may take


@dataclass(frozen=True)
class Seen:
    """Hold a request; `at` is monotonic."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    at: float
    fields: tuple[tuple[str, str], ...] = ()  # the same, for what may come more than once

    @property
    def version(self) -> str | None:
        return self.query.get("resourceVersion")


Reply = Callable[[socket.socket], None]


@dataclass
class ScriptedApi:
    """Serve until closed; `tls` is (certificate file, key file), `clients` the CA of those who are let in."""

    tls: tuple[str, str] | None = None
    clients: str = ""
    objects: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)  # path -> name -> object
    version: int = 100
    oldest: int = 0  # watches from before are told 410
    lists: deque[Reply] = field(default_factory=deque)
    watches: deque[Reply] = field(default_factory=deque)
    always: Callable[[Seen], Reply | None] = lambda _: None  # asked before all else
    seen: list[Seen] = field(default_factory=list)
    host: str = "127.0.0.1"
    at: int = 0  # the port; 0 is any that is free

    def __post_init__(self) -> None:
        self._events: list[tuple[int, str, dict[str, Any]]] = []
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._closed = False
        self._context = self.tls and _context(self.tls, self.clients)
        self._listener = Listener(self._serve, self.host, self.at)
        self.port = self._listener.port

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def list_requests(self) -> list[Seen]:
        return [seen for seen in self.seen if "watch" not in seen.query]

    @property
    def watch_requests(self) -> list[Seen]:
        return [seen for seen in self.seen if "watch" in seen.query]

    def present(self, certificate: tuple[str, str]) -> None:
        """Show another certificate from the next connection on."""
        self._context = _context(certificate, self.clients)

    def put(self, path: str, obj: dict[str, Any]) -> dict[str, Any]:
        """Create or change an object and tell the watches."""
        name = obj["metadata"]["name"]
        kind = "MODIFIED" if name in self.objects.setdefault(path, {}) else "ADDED"
        return self._happen(kind, path, obj)

    def delete(self, path: str, name: str) -> None:
        """Delete an object and tell the watches."""
        self._happen("DELETED", path, self.objects[path][name])

    def forget(self) -> None:
        """Compact: every older version is gone."""
        self.oldest = self.version = self.version + 1

    def cut(self) -> None:
        """Close every connection that is open."""
        for connection in list(self._open):
            _shut(connection)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._listener.close()
        self.cut()

    def _happen(self, kind: str, path: str, obj: dict[str, Any]) -> dict[str, Any]:
        with self._changed:
            self.version += 1
            obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}}
            if kind == "DELETED":
                del self.objects[path][obj["metadata"]["name"]]
            else:
                self.objects[path][obj["metadata"]["name"]] = obj
            self._events.append((self.version, path, event(kind, obj)))
            self._changed.notify_all()
        return obj

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._context:
                connection = self._context.wrap_socket(connection, server_side=True)
            self._open.add(connection)
            with connection, connection.makefile("rb") as stream:
                while head := _head(stream):
                    seen = _seen(head)
                    stream.read(int(seen.headers.get("content-length", 0)))
                    reply = self._reply(seen)  # before it is seen: what a test scripts then is for the next one
                    self.seen.append(seen)
                    reply(connection)
        except OSError:  # the other end went away, or a test cut it
            pass
        finally:
            self._open.discard(connection)
            connection.close()

    def _reply(self, seen: Seen) -> Reply:
        if reply := self.always(seen):
            return reply
        script = self.watches if "watch" in seen.query else self.lists
        if script:
            return script.popleft()
        return self._watch(seen) if "watch" in seen.query else page(self._items(seen.path), self.version)

    def _items(self, path: str) -> list[dict[str, Any]]:
        return list(self.objects.get(path, {}).values())

    def _watch(self, seen: Seen) -> Reply:
        begin = int(seen.version) if seen.version and seen.version.isdigit() else self.version
        if begin < self.oldest:
            return refuse(410, "too old resource version")

        def run(connection: socket.socket) -> None:
            connection.sendall(_CHUNKED)
            told = begin
            while not self._closed:
                news = [entry for entry in list(self._events) if entry[0] > told]
                for version, path, what in news:
                    told = version
                    if path == seen.path:
                        connection.sendall(_chunk(line(what)))
                with self._changed:
                    self._changed.wait_for(partial(self._news, told), HELD)

        return run

    def _news(self, told: int) -> bool:
        return self._closed or (bool(self._events) and self._events[-1][0] > told)


def kubeconfig(folder: Path, url: str, **cluster: str) -> Path:
    """Write a kubeconfig that leads there, without a login; underscores in what else it says become hyphens."""
    path = folder / "kubeconfig"
    said = {"server": url} | {name.replace("_", "-"): value for name, value in cluster.items()}
    path.write_text(
        f"""{{apiVersion: v1, kind: Config, current-context: x, users: [{{name: u, user: {{}}}}],
        clusters: [{{name: c, cluster: {json.dumps(said)}}}],
        contexts: [{{name: x, context: {{cluster: c, user: u}}}}]}}"""
    )
    return path


def event(kind: str, obj: object) -> dict[str, Any]:
    return {"type": kind, "object": obj}


def bookmark(version: object) -> dict[str, Any]:
    return event("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


def line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


def refuse(status: int, message: str = "no", **headers: str) -> Reply:
    """Answer with a Status, as API servers do."""
    body = json.dumps({"kind": "Status", "status": "Failure", "message": message, "code": status}).encode()
    return raw(body, status, **headers)


def raw(body: bytes, status: int = 200, **headers: str) -> Reply:
    """Answer with these bytes; underscores in a header's name become hyphens."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return lambda connection: connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)


def page(items: list[Any], version: object, token: str = "") -> Reply:
    """Answer with a page of a list; `token` says that more follows."""
    metadata = {"resourceVersion": str(version)} | ({"continue": token} if token else {})
    return raw(json.dumps({"kind": "List", "metadata": metadata, "items": items}).encode())


def stream(*pieces: object, end: str = "clean") -> Reply:
    """Answer a watch with events (or raw bytes); `end` is clean, cut (no last chunk) or held."""

    def run(connection: socket.socket) -> None:
        connection.sendall(_CHUNKED)
        for piece in pieces:
            connection.sendall(_chunk(piece if isinstance(piece, bytes) else line(piece)))
        if end == "clean":
            connection.sendall(b"0\r\n\r\n")
        elif end == "cut":
            _shut(connection)
        else:
            hold(connection)

    return run


def hold(connection: socket.socket) -> None:
    """Answer nothing more until the other end gives up."""
    connection.settimeout(HELD)
    connection.recv(1)
    _shut(connection)


_CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _head(stream) -> list[str]:
    lines = []
    while text := stream.readline().decode("latin-1").rstrip("\r\n"):
        lines.append(text)
    return lines


def _seen(head: list[str]) -> Seen:
    target = urlsplit(head[0].split(" ")[1])
    fields = [text.split(": ", 1) for text in head[1:]]
    said = tuple((name.lower(), value) for name, value in fields)
    query = {name: values[0] for name, values in parse_qs(target.query).items()}
    return Seen(target.path, query, dict(said), time.monotonic(), said)


def _context(certificate: tuple[str, str], clients: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if clients:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
