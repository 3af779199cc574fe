"""HTTP/1 as bytes: read messages off a socket, lenient with what is wrong and exact with what was sent."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace

Fields = tuple[tuple[str, str], ...]  # (name, what stands behind the colon, blanks included), as latin-1

NO_COLON = "\n"  # in a value's place


@dataclass(frozen=True)
class Message:
    """Hold a request or an answer as it came; `framing` is none, length, chunked or close."""

    start: str
    fields: Fields = ()
    framing: str = "none"
    body: bytes = b""
    extensions: tuple[str, ...] = ()  # of chunks
    trailers: Fields = ()
    whole: bool = True  # False where the connection ended before it did

    def values(self, name: str) -> list[str]:
        """Return the values of all fields of this name, without the blanks around them."""
        return [value.strip(" \t") for key, value in self.fields if key.lower() == name]

    @property
    def status(self) -> int:
        """Return an answer's status, 0 where the line has none."""
        words = self.start.split(" ")
        return int(words[1]) if len(words) > 1 and words[1].isdecimal() else 0


@dataclass
class Stream:
    """Read from a socket; `watch` sees all bytes so far each time that some came."""

    connection: socket.socket
    watch: Callable[[bytes], None] = lambda _: None
    rest: bytes = b""
    _all: bytearray = field(default_factory=bytearray)

    def more(self) -> bool:
        """Wait for bytes; False where none came: the end, a reset, or silence for the socket's timeout."""
        try:
            piece = self.connection.recv(65536)
        except OSError:
            return False
        self.rest += piece
        self._all += piece
        self.watch(bytes(self._all[-70_000:]))
        return bool(piece)

    def line(self) -> str | None:
        """Return the next line without its end, or None where the stream ends before it."""
        while b"\n" not in self.rest:
            if not self.more():
                return None
        line, _, self.rest = self.rest.partition(b"\n")
        return line.removesuffix(b"\r").decode("latin-1")

    def exactly(self, size: int) -> bytes:
        """Return so many bytes, or fewer where the stream ends."""
        while len(self.rest) < size and self.more():
            pass
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def to_end(self) -> bytes:
        """Return all bytes up to the end."""
        while self.more():
            pass
        taken, self.rest = self.rest, b""
        return taken


def is_final(answer: Message) -> bool:
    """Tell whether no other answer to the same request follows."""
    return answer.status == 101 or not 100 <= answer.status < 200


def read_head(stream: Stream) -> Message | None:
    """Return the start line and the fields, or None where the stream ends without a byte."""
    while (start := stream.line()) == "":  # RFC 9112, 2.2: blank lines before a message mean nothing
        pass
    if start is None:
        cut, stream.rest = stream.rest.decode("latin-1"), b""
        return Message(cut, whole=False) if cut else None
    if start and " HTTP/" not in start and not start.startswith("HTTP/"):
        return Message(start)  # HTTP/0.9: no head
    fields, whole = _fields(stream)
    return Message(start, fields, whole=whole)


def _fields(stream: Stream) -> tuple[Fields, bool]:
    fields = []
    while line := stream.line():
        name, colon, value = line.partition(":")
        fields.append((name, value if colon else NO_COLON))
    return tuple(fields), line is not None


def read_request_body(stream: Stream, head: Message) -> Message:
    """Return the request with its body."""
    if "chunked" in ",".join(head.values("transfer-encoding")).lower():
        return _chunked(stream, head)
    lengths = head.values("content-length")
    return _sized(stream, head, int(lengths[-1])) if lengths and lengths[-1].isdecimal() else head


def read_answer_body(stream: Stream, head: Message, method: str) -> Message:
    """Return the answer with its body; RFC 9112, 6.3 says how long it is."""
    if not head.whole or 100 <= head.status < 200 or head.status in (204, 304) or method == "HEAD":
        return head
    if "chunked" in ",".join(head.values("transfer-encoding")).lower():
        return _chunked(stream, head)
    lengths = head.values("content-length")
    if lengths and lengths[0].isdecimal():
        return _sized(stream, head, int(lengths[0]))
    return replace(head, framing="close", body=stream.to_end())


def _sized(stream: Stream, head: Message, size: int) -> Message:
    body = stream.exactly(size)
    return replace(head, framing="length", body=body, whole=len(body) == size)


def _chunked(stream: Stream, head: Message) -> Message:
    message = replace(head, framing="chunked", whole=False)
    while True:
        size, _, extension = (stream.line() or "").partition(";")
        if not _is_hex(size.strip()):
            return message
        if extension:
            message = replace(message, extensions=(*message.extensions, extension))
        count = int(size, 16)
        if not count:
            trailers, whole = _fields(stream)
            return replace(message, trailers=trailers, whole=whole)
        piece = stream.exactly(count)
        message = replace(message, body=message.body + piece)
        if len(piece) < count or stream.line() is None:
            return message


def _is_hex(text: str) -> bool:
    return bool(text) and all(letter in "0123456789abcdefABCDEF" for letter in text)


def close(connection: socket.socket) -> None:
    """Close a connection that the other side may have closed already."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
