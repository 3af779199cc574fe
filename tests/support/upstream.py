"""An upstream that says what it saw, streams on command and echoes websockets."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading
from dataclasses import dataclass, field

from tests.support.listener import Listener

_MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455


@dataclass
class Upstream:
    """Listen on an address until closed. Paths that begin with /stream, /status/N and /ws are special.

    So are bodies that ask for a stream as OpenAI's do.
    """

    host: str = "127.0.0.1"
    port: int = 0
    name: str = "upstream"
    seen: list[str] = field(default_factory=list)  # request lines, raw
    release: threading.Event = field(default_factory=threading.Event)  # lets /stream go on after its first piece

    def __post_init__(self) -> None:
        self._listener = Listener(self._serve, self.host, self.port)
        self.port = self._listener.port

    def close(self) -> None:
        """Stop to listen; connections that are open go on."""
        self._listener.close()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            try:
                while head := _head(stream):
                    self._answer(connection, stream, head)
            except OSError:
                return

    def _answer(self, connection: socket.socket, stream, head: list[str]) -> None:
        self.seen.append(head[0])
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        body = stream.read(int(headers.get("content-length", 0)))
        path = head[0].split(" ")[1]
        if path.startswith("/stream") or b'"stream": true' in body:
            self._stream(connection)
        elif path.startswith("/status/"):
            _send(connection, int(path.split("/")[2]), b"<html>the model server's own page</html>", "text/html")
        elif headers.get("upgrade", "").lower() == "websocket":
            _websocket(connection, stream, headers["sec-websocket-key"])
        else:
            report = {"upstream": self.name, "line": head[0], "headers": headers, "body": body.decode("latin-1")}
            _send(connection, 200, json.dumps(report).encode())

    def _stream(self, connection: socket.socket) -> None:
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"d\r\ndata: first\n\n\r\n"
        )
        self.release.wait(60)
        connection.sendall(b"c\r\ndata: last\n\n\r\n0\r\n\r\n")


def _head(stream) -> list[str]:
    lines: list[str] = []
    while (line := stream.readline().decode("latin-1").rstrip("\r\n")) or (not lines and line):
        lines.append(line)
    return lines


def _send(connection: socket.socket, status: int, body: bytes, content_type: str = "application/json") -> None:
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)


def _websocket(connection: socket.socket, stream, key: str) -> None:
    """Shake hands and echo short text frames until the client closes."""
    accept = base64.b64encode(hashlib.sha1((key + _MAGIC).encode()).digest()).decode()
    connection.sendall(
        f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )
    while len(header := stream.read(2)) == 2:
        length = header[1] & 0x7F
        mask = stream.read(4)
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(stream.read(length)))
        connection.sendall(bytes([header[0], len(payload)]) + payload)
        if header[0] & 0x0F == 8:
            break
    connection.shutdown(socket.SHUT_RDWR)
