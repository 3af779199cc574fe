"""The engine's own process: requests come in over a socket, tokens go out in one message for each step.

In the process that talks HTTP the engine would wait for it at every step, since one process runs Python in one
thread at a time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import sys
import threading
from contextlib import aclosing
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from llmserving.engines.base import EngineDeadError, HangingError, SequenceError
from llmserving.engines.protocol import Cancel, Embed, End, Hanging, Loaded, NotLoaded, Proving, Submit, Update
from llmserving.log import set_up

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmserving.engines.base import Engine
    from llmserving.engines.encoder import Encoder
    from llmserving.engines.protocol import Item, Request
    from llmserving.settings import Settings

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1.0


def main() -> None:
    """Load the model that the first message describes, then work until the server is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # what ends the server lets it finish its answers first
        signal.signal(number, signal.SIG_IGN)
    server = Connection(int(sys.argv[1]))
    threading.Thread(target=_end_with, args=(server.fileno(),), daemon=True).start()
    settings: Settings = server.recv()
    set_up(settings.log_level)
    try:
        engine, encoder = _load(settings, lambda seconds: server.send(Proving(seconds)))
    except HangingError as error:
        server.send(Hanging(str(error)))
        os._exit(1)  # whatever its thread is doing
    except Exception as error:  # noqa: BLE001 - it is raised again where the server waits
        server.send(NotLoaded(_portable(error)))
        return
    server.send(_loaded(engine, encoder))
    asyncio.run(Core(server, engine, encoder).run())


def _loaded(engine: Engine, encoder: Encoder | None) -> Loaded:
    embedding = (encoder.embedding_tokens, encoder.embedding_vocabulary, encoder.embedding_width) if encoder else ()
    return Loaded(engine.context_length, engine.vocabulary, *embedding)


def _end_with(server: int) -> None:
    """End this process, whatever it is doing, when the server has closed its end or is no more."""
    watch = select.poll()
    watch.register(server, select.POLLRDHUP)
    watch.poll()
    os._exit(0)  # there is nothing to save


def _load(settings: Settings, proving: Callable[[float], None]) -> tuple[Engine, Encoder | None]:
    from llmserving.engines.local import load_local  # noqa: PLC0415 - to import it may fail, and is told of

    return load_local(settings, proving)


class Core:
    """Do what the server asks for."""

    def __init__(self, server: Connection, engine: Engine, encoder: Encoder | None) -> None:
        self._server = server
        self._engine = engine
        self._encoder = encoder
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._items: list[tuple[int, Item]] = []

    async def run(self) -> None:
        """Work, and say again and again how the engine is."""
        asyncio.get_running_loop().add_reader(self._server.fileno(), self._receive)
        while True:
            self._send()
            await asyncio.sleep(HEARTBEAT_SECONDS)

    def _receive(self) -> None:
        while self._server.poll():
            self._take(self._server.recv())

    def _take(self, message: Request | Cancel) -> None:
        number = message.number
        if isinstance(message, Cancel):
            if number in self._tasks:
                self._tasks[number].cancel()
        else:
            task = self._tasks[number] = asyncio.create_task(self._do(message))
            task.add_done_callback(lambda _: self._tasks.pop(number))  # not in the task, which may never begin

    async def _do(self, message: Request) -> None:
        number = message.number
        try:
            await (self._continue(message) if isinstance(message, Submit) else self._embed(message))
            self._emit(number, End())
        except Exception as error:  # noqa: BLE001 - it is raised again where the server waits for this number
            self._emit(number, End(_portable(error)))

    async def _continue(self, message: Submit) -> None:
        async with aclosing(self._engine.submit(message.prompt, message.sampling)) as tokens:
            async for token in tokens:
                self._emit(message.number, token)

    async def _embed(self, message: Embed) -> None:
        assert self._encoder is not None  # the server asks for no vectors where there are none
        self._emit(message.number, await self._encoder.embed(message.prompts))

    def _emit(self, number: int, item: Item) -> None:
        """Keep an item until the others of the same step are there."""
        if not self._items:
            asyncio.get_running_loop().call_soon(self._send)
        self._items.append((number, item))

    def _send(self) -> None:
        items, self._items = self._items, []
        self._server.send(Update(items, self._engine.stats(), self._trouble()))

    def _trouble(self) -> str | None:
        try:
            self._engine.check_health()
        except EngineDeadError as error:
            return str(error)
        return None


def _portable(error: Exception) -> Exception:
    """Return the error as one of a kind that the server knows; what nobody foresaw is logged where it was."""
    for kind in (EngineDeadError, SequenceError, ValueError, OSError):
        if isinstance(error, kind):
            return kind(str(error))
    log.error("the engine's process caught an error", exc_info=error)
    return RuntimeError(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
