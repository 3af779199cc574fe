"""An engine in a process of its own, seen from the server."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmserving.engines.base import CHECK_SECONDS, CHECKS, EngineDeadError, SequenceError, Stats, Vocabulary
from llmserving.engines.protocol import Cancel, Embed, End, Hanging, Loaded, NotLoaded, Proving, Submit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from multiprocessing.connection import Connection

    from llmserving.engines.base import Sampling, Token
    from llmserving.engines.protocol import Item, Request, Update
    from llmserving.settings import Settings

log = logging.getLogger(__name__)

PACKAGES = Path(__file__).resolve().parents[2]
SILENCE_SECONDS = 60.0  # without a sign of life, which comes every second whatever the model does: the process hangs
UNREAD_TOKENS = 16384  # of one sequence: whoever is further behind does not read
GRACE_SECONDS = 15.0  # for the process to say itself that the proof took too long
END_SECONDS = 10.0  # to be gone, once it was killed or has hung up: a driver may hold it for ever


class RemoteEngine:
    """Run a transformers engine, and what embeds, in a child process that ends with this one."""

    check_format = None
    context_length = embedding_tokens = embedding_vocabulary = embedding_width = 0  # until it is loaded
    vocabulary = Vocabulary(0, 0)

    def __init__(self, settings: Settings) -> None:
        self._numbers = itertools.count()
        self._waiting: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Queue[Item | Exception]]] = {}
        self._outbox: queue.SimpleQueue[Request | Cancel | None] = queue.SimpleQueue()
        self._stats, self._heard = Stats(), time.monotonic()
        self._unhealthy: str | None = None
        self._ended: str | None = None
        self._settings = settings
        self._connection, self._process = _start(settings)

    def wait_until_loaded(self) -> None:
        """Wait for the model; raise what the process raised if it could not load it.

        Where an engine dies or hangs while it proves itself, load the model again, for `generate`.
        """
        answer = self._loaded()
        if isinstance(answer, Hanging):
            if self._settings.engine == "continuous":
                raise RuntimeError(f"engine continuous: {answer.words}; engine generate serves this model")
            log.warning("continuous batching is not for this model (%s): one sequence at a time", answer.words)
            if not _killed(self._process):
                raise RuntimeError(f"the memory for another engine is not free: {_clinging(self._process)}")
            self._connection, self._process = _start(self._settings.model_copy(update={"engine": "generate"}))
            answer = self._loaded()
        if not isinstance(answer, Loaded):
            raise answer.error if isinstance(answer, NotLoaded) else RuntimeError(answer.words)
        self.context_length, self.vocabulary = answer.context_length, answer.vocabulary
        self.embedding_tokens, self.embedding_vocabulary = answer.embedding_tokens, answer.embedding_vocabulary
        self.embedding_width = answer.embedding_width
        self._heard = time.monotonic()
        for work in (self._talk, self._listen, self._patrol):
            threading.Thread(target=work, name=f"engine{work.__name__}", daemon=True).start()

    def _loaded(self) -> Loaded | NotLoaded | Hanging:
        """Return the answer about the model: it may take any time, a proof only what it says."""
        try:
            answer: Loaded | NotLoaded | Hanging | Proving = self._connection.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError(f"the engine's process {self._end()}: it was loading the model") from error
        if not isinstance(answer, Proving):
            return answer
        try:
            if not self._connection.poll(answer.seconds + GRACE_SECONDS):
                return Hanging("its process has said nothing since it began to prove itself")
            proven: Loaded | NotLoaded | Hanging = self._connection.recv()
            return proven
        except (EOFError, OSError):
            return Hanging(f"the engine's process {self._end()}: it was proving itself")

    def submit(self, prompt: Sequence[int], sampling: Sampling) -> AsyncGenerator[Token, None]:
        """Yield tokens as the process makes them; closing the generator frees the sequence's place."""
        return self._ask(Submit(next(self._numbers), tuple(prompt), sampling))

    async def embed(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return one vector of length 1 for each prompt."""
        async with contextlib.aclosing(self._ask(Embed(next(self._numbers), tuple(map(tuple, prompts))))) as answers:
            vectors: list[list[float]] = await anext(answers)
            return vectors

    async def _ask(self, request: Request) -> AsyncGenerator[Any, None]:
        items: asyncio.Queue[Item | Exception] = asyncio.Queue()
        self._waiting[request.number] = asyncio.get_running_loop(), items
        ended = False
        try:
            self.check_health()
            self._outbox.put(request)
            while True:
                item = await items.get()
                if isinstance(item, Exception):
                    raise item
                if not isinstance(item, End):
                    yield item
                    continue
                ended = True
                if item.error is not None:
                    raise item.error
                return
        finally:
            del self._waiting[request.number]
            if not ended:
                self._outbox.put(Cancel(request.number))

    def _talk(self) -> None:
        """Send what is in the outbox: in a thread, since a long prompt may have to wait for the other end."""
        while (message := self._outbox.get()) is not None:
            try:
                self._connection.send(message)
            except OSError:  # the listener sees it too, and says so
                return

    def _listen(self) -> None:
        try:
            while True:
                update: Update = self._connection.recv()
                self._heard, self._stats, self._unhealthy = time.monotonic(), update.stats, update.unhealthy
                self._deliver(update.items)
        except (EOFError, OSError):
            self._ended = self._ended or f"the engine's process {self._end()}"
            self._stats = Stats()
            self._outbox.put(None)
            self._deliver([(number, End(EngineDeadError(self._ended))) for number in list(self._waiting)])

    def _patrol(self) -> None:
        """Give up whatever is asked of a process that hangs: its callers may be all that keeps a server from its end.

        In a thread, since a time limit of their own for each token would cost as much as its way through the queue.
        """
        failed = 0
        while self._ended is None:
            time.sleep(CHECK_SECONDS)
            try:
                self.check_health()
                failed = 0
            except EngineDeadError as error:
                failed += 1
                if failed >= CHECKS:
                    self._deliver([(number, EngineDeadError(str(error))) for number in list(self._waiting)])

    def _deliver(self, items: Sequence[tuple[int, Item | Exception]]) -> None:
        """Hand items to those who wait for them, waking each event loop once."""
        found: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Queue[Item | Exception], Item | Exception]]] = {}
        for number, item in items:
            if waiting := self._waiting.get(number):
                found.setdefault(waiting[0], []).append((waiting[1], item))
        for loop, deliveries in found.items():
            with contextlib.suppress(RuntimeError):  # it is closed: nobody waits any more
                loop.call_soon_threadsafe(_put, deliveries)

    def _end(self) -> str:
        """Return what became of the process, which has closed its end of the connection."""
        try:
            code = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return f"has hung up, and is still there {END_SECONDS:g} seconds later"
        if code == -signal.SIGKILL:
            return "was killed: for want of memory, most often"
        return f"ended with {code}"

    def check_health(self) -> None:
        """Raise EngineDeadError if the engine is dead or hangs, or its process."""
        if trouble := self._ended or self._unhealthy:
            raise EngineDeadError(trouble)
        if time.monotonic() - self._heard > SILENCE_SECONDS:
            raise EngineDeadError(f"the engine's process has said nothing for {SILENCE_SECONDS:g} seconds")

    def stats(self) -> Stats:
        """Return what the engine was doing a second ago at most."""
        return self._stats

    def close(self) -> None:
        """End the process, which has nothing to save."""
        self._ended = self._ended or "the engine was stopped"
        if not _killed(self._process):
            log.error("%s", _clinging(self._process))


def _start(settings: Settings) -> tuple[Connection, subprocess.Popen[bytes]]:
    ours, theirs = Pipe()
    command = [sys.executable, "-m", "llmserving.engines.core", str(theirs.fileno())]
    path = os.pathsep.join(filter(None, [str(PACKAGES), os.environ.get("PYTHONPATH")]))
    with theirs:
        process = subprocess.Popen(  # noqa: S603 - our own module
            command, pass_fds=[theirs.fileno()], env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.DEVNULL
        )
    with contextlib.suppress(OSError):  # it has ended already: who waits for its answer says so
        ours.send(settings)
    return ours, process


def _killed(process: subprocess.Popen[bytes]) -> bool:
    """Kill a process, and return whether it is gone."""
    process.kill()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _clinging(process: subprocess.Popen[bytes]) -> str:
    return (
        f"the engine's process {process.pid} was killed, and is still there {END_SECONDS:g} seconds later: "
        "a driver or a disk holds it, and it its memory"
    )


def _put(deliveries: list[tuple[asyncio.Queue[Item | Exception], Item | Exception]]) -> None:
    for items, item in deliveries:
        if items.qsize() < UNREAD_TOKENS:
            items.put_nowait(item)
        elif items.qsize() == UNREAD_TOKENS:  # what comes after it is dropped: the reader ends here
            items.put_nowait(SequenceError(f"{UNREAD_TOKENS} tokens of it have not been read"))
