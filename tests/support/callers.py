"""Callers without a pause while something happens to a model: how many failed, how long none was answered."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException

from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from tests.support.http import Answer, request

Address = tuple[str, int]
CALLERS = 3  # and one who wants long answers, and one who keeps a websocket open
JSON = {"Content-Type": "application/json; charset=utf-8"}
QUESTION = json.dumps({"input": "你好"}).encode()
LONG_QUESTION = {"invoke_method": "sse", "incremental": True, "prompt": [{"role": "user", "content": "说" * 500}]}
ANSWERED, WHOLE, CUT = "200", "whole", "cut"
ECHO = 0.2  # s between two words on a websocket
SILENCE = 10.0  # s without an echo, after which a websocket counts as cut
Outcome = tuple[str, str]  # with the words of an error


@dataclass(frozen=True)
class Call:
    """A call, when it ended, what came of it, and the words of an error."""

    ended: float
    outcome: str
    words: str = ""


@dataclass(frozen=True)
class Figures:
    """What a table says of some calls."""

    calls: int
    failed: int
    gap: float  # s, the longest time without an answer
    streams: int
    cut: int
    broken: int  # websockets


@dataclass
class Heard:
    """All that callers have heard so far."""

    begun: float = field(default_factory=time.monotonic)
    ended: float = 0.0  # after which no call began
    calls: list[Call] = field(default_factory=list)
    streams: list[Call] = field(default_factory=list)
    sockets: list[Call] = field(default_factory=list)

    @property
    def outcomes(self) -> Counter[str]:
        """Count what came of calls and streams."""
        return Counter(call.outcome for call in [*self.calls, *self.streams])

    @property
    def failures(self) -> Counter[str]:
        """Count what came of the calls that failed."""
        return Counter(call.outcome for call in self.calls if call.outcome != ANSWERED)

    @property
    def words(self) -> dict[str, str]:
        """Return the last words of each kind of failure."""
        return {call.outcome: call.words for call in self.calls if call.outcome != ANSWERED}

    @property
    def figures(self) -> Figures:
        return figures(self.begun, self.calls, self.streams, self.sockets)


def figures(begun: float, calls: list[Call], streams: list[Call], sockets: list[Call]) -> Figures:
    """Return what a table says of calls, and of streams and websockets that were open meanwhile."""
    answered = sorted(call.ended for call in calls if call.outcome == ANSWERED)
    times = [begun, *answered, max((call.ended for call in calls), default=begun)]
    gap = max(later - earlier for earlier, later in itertools.pairwise(times))
    cut, broken = (Counter(call.outcome for call in each)[CUT] for each in (streams, sockets))
    return Figures(len(calls), len(calls) - len(answered), gap, len(streams), cut, broken)


def ask(address: Address, path: str) -> str:
    """Return the status of one short answer, or what went wrong."""
    return _asked(address, path)[0]


def _asked(address: Address, path: str) -> Outcome:
    try:
        answer = request(address, f"{path}/inference", "POST", QUESTION, JSON, timeout=60)
    except (OSError, HTTPException) as error:
        return repr(error), ""
    return str(answer.status), _words(answer)


def _words(answer: Answer) -> str:
    """Return the message of an error in the proxy's form, or the beginning of any other one."""
    if answer.status == 200:
        return ""
    try:
        return str(answer.json["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return answer.body[:100].decode(errors="replace")


def _streamed(address: Address, path: str) -> Outcome:
    """Return whether a long answer came to its end, or what came in its place."""
    target = f"{path}/embeddings/QuestionAnswer?stream=true"
    try:
        answer = request(address, target, "POST", json.dumps(LONG_QUESTION).encode(), JSON, timeout=60)
    except HTTPException:
        return CUT, ""
    except OSError as error:
        return repr(error), ""
    if answer.status != 200:
        return str(answer.status), _words(answer)
    return (WHOLE if b"event:finish" in answer.body else CUT), ""


def _kept(done: threading.Event, address: Address, path: str) -> Outcome:
    """Keep a websocket open until the end; return whether it lasted."""
    host, port = address
    try:
        with connect(f"ws://{host}:{port}{path}/ws", proxy=None, open_timeout=10, close_timeout=2) as socket:
            return (WHOLE if _echoes(done, socket) else CUT), ""
    except InvalidStatus as error:
        return str(error.response.status_code), ""
    except (OSError, WebSocketException) as error:
        return repr(error), ""


def _echoes(done: threading.Event, socket: Connection) -> bool:
    try:
        while not done.wait(ECHO):
            socket.send("word")
            socket.recv(timeout=SILENCE)
    except (OSError, WebSocketException):
        return False
    return True


@contextmanager
def calling(address: Address, path: str) -> Iterator[Heard]:
    """Let callers ask until the end of the block."""
    heard = Heard()
    done = threading.Event()
    threads = [
        *(_caller(done, heard.calls, lambda: _asked(address, path)) for _ in range(CALLERS)),
        _caller(done, heard.streams, lambda: _streamed(address, path)),
        _caller(done, heard.sockets, lambda: _kept(done, address, path)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield heard
    finally:
        heard.ended = time.monotonic()
        done.set()
        for thread in threads:
            thread.join()


def _caller(done: threading.Event, calls: list[Call], once: Callable[[], Outcome]) -> threading.Thread:
    return threading.Thread(target=_repeat, args=(done, calls, once))


def _repeat(done: threading.Event, calls: list[Call], once: Callable[[], Outcome]) -> None:
    while not done.is_set():
        outcome, words = once()
        calls.append(Call(time.monotonic(), outcome, words))
        if outcome not in (ANSWERED, WHOLE):
            done.wait(0.05)  # who is refused at once would count thousands of failures
