"""One exchange: a case, sent one way, and all that both ends saw of it."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from enum import Enum

from tests.differential.recorder import GATE, MARK, PATIENCE, Recorder, Script, Take
from tests.differential.wire import Message, Stream, close, is_final, read_answer_body, read_head

HERE = "§/".encode("latin-1")  # in a case: where the model's paths begin
PLAIN_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


class Pause(Enum):
    """Where a caller waits while it sends."""

    CONTINUE = "until it is told to go on"
    GATE = "whether the model has the first piece"


@dataclass(frozen=True)
class Case:
    """Hold what a caller sends and what the model answers; the bytes have `§/` where the model's paths begin."""

    sends: tuple[bytes | Pause, ...]
    script: Script = (PLAIN_ANSWER,)
    requests: int = 1

    @property
    def head(self) -> bytes:
        """Return the request's head."""
        return b"".join(part for part in self.sends if isinstance(part, bytes)).partition(b"\r\n\r\n")[0]

    @property
    def method(self) -> str:
        """Return the (first) request's method."""
        return self.head.split(b" ")[0].decode("latin-1")


@dataclass(frozen=True)
class Seen:
    """Hold what came out at both ends."""

    requests: tuple[Message, ...]  # at the model
    answers: tuple[Message, ...]  # at the caller, interim ones included
    extra: bytes = b""  # behind the last answer: of a websocket, say
    request_streamed: bool = True
    answer_streamed: bool = True


@dataclass
class Caller:
    """Send a case's bytes on one connection and read what comes."""

    case: Case
    take: Take
    request_streamed: bool = True
    answers: list[Message] = field(default_factory=list)

    def talk(self, connection: socket.socket, base: bytes) -> bytes:
        """Send all and read all; return what is behind the last answer."""
        stream = Stream(connection, self._watch)
        try:
            for part in self.case.sends:
                if isinstance(part, bytes):
                    connection.sendall(part.replace(HERE, base))
                elif part is Pause.GATE:
                    self.request_streamed = self.take.got_first.wait(GATE)
                elif not self._may_go_on(stream):
                    break
        except OSError:
            pass  # an answer came before the request's end, and the other side is gone
        self._read(stream)
        if self.answers and self.answers[-1].status == 101:
            return stream.to_end()
        return stream.rest

    def _watch(self, received: bytes) -> None:
        if MARK in received:
            self.take.has_first.set()

    def _may_go_on(self, stream: Stream) -> bool:
        head = read_head(stream)
        if head:
            self.answers.append(read_answer_body(stream, head, self.case.method))
        return head is not None and head.status == 100

    def _read(self, stream: Stream) -> None:
        wanted = self.case.requests
        while sum(map(is_final, self.answers)) < wanted:
            head = read_head(stream)
            if not head:
                return
            self.answers.append(read_answer_body(stream, head, self.case.method))
            if not self.answers[-1].whole:
                return


def exchange(case: Case, recorder: Recorder, port: int, base: bytes) -> Seen:
    """Send the case to a port, `base` where the model's paths begin."""
    take = recorder.arm(case.script)
    caller = Caller(case, take)
    connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
    try:
        extra = caller.talk(connection, base)
    finally:
        close(connection)
    take.finish()
    return Seen(tuple(take.seen), tuple(caller.answers), extra, caller.request_streamed, take.answer_streamed)
