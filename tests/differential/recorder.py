"""The model's place: records every request as bytes and answers, byte for byte, what the test wrote."""

from __future__ import annotations

import socket
import struct
import threading
from dataclasses import dataclass, field
from enum import Enum

from tests.differential.wire import Message, Stream, close, read_head, read_request_body

PATIENCE = 5.0  # s that a connection may stay silent
GATE = 1.0  # s that one side waits to see whether the other has a first piece
MARK = b"first"  # what a first piece holds


class Step(Enum):
    """What an answer may do beside sending bytes."""

    GATE = "wait whether the caller has the first piece"
    ECHO = "send four bytes back"
    RESET = "reset the connection"
    CLOSE = "close the connection"
    SILENCE = "say nothing until the other side gives up"


Script = tuple[bytes | Step, ...]


@dataclass
class Take:
    """Hold one exchange: what to answer, and what was seen."""

    script: Script
    seen: list[Message] = field(default_factory=list)
    echoed: bytes = b""
    has_first: threading.Event = field(default_factory=threading.Event)  # the caller has the answer's first piece
    got_first: threading.Event = field(default_factory=threading.Event)  # the model has the body's first piece
    answer_streamed: bool = True
    threads: list[threading.Thread] = field(default_factory=list)

    def finish(self) -> None:
        """Wait until every connection of this exchange is done with."""
        for thread in self.threads:
            thread.join(PATIENCE)


class Recorder:
    """Listen on loopback until closed; one exchange at a time."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self.take = Take(())
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def arm(self, script: Script) -> Take:
        """Begin a new exchange."""
        self.take = Take(script)
        return self.take

    def close(self) -> None:
        """Stop to listen."""
        close(self._listener)
        self._thread.join(PATIENCE)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE)
            thread = threading.Thread(target=_serve, args=(connection, self.take), daemon=True)
            self.take.threads.append(thread)
            thread.start()


def _serve(connection: socket.socket, take: Take) -> None:
    def watch(received: bytes) -> None:
        if MARK in received:
            take.got_first.set()

    stream = Stream(connection, watch)
    try:
        while (head := read_head(stream)) and _answer(connection, stream, head, take):
            pass
    except OSError:
        pass
    finally:
        close(connection)


def _answer(connection: socket.socket, stream: Stream, head: Message, take: Take) -> bool:
    """Record the request and answer it; tell whether the connection goes on."""
    if head.values("expect"):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    request = read_request_body(stream, head)
    take.seen.append(request)
    if not request.whole:
        return False
    return all(_step(connection, stream, step, take) for step in take.script)  # ends with the first that is False


def _step(connection: socket.socket, stream: Stream, step: bytes | Step, take: Take) -> bool:
    match step:
        case bytes():
            connection.sendall(step)
        case Step.GATE:
            take.answer_streamed = take.has_first.wait(GATE)
        case Step.ECHO:
            take.echoed = stream.exactly(4)
            connection.sendall(take.echoed)
        case Step.SILENCE:
            stream.to_end()
        case Step.RESET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        case Step.CLOSE:
            close(connection)
    return step not in (Step.RESET, Step.CLOSE)
