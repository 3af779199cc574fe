"""The end of a server that stands alone, when its engine cannot work any more: nobody else would replace it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from typing import TYPE_CHECKING

import uvicorn

from llmserving.engines.base import CHECK_SECONDS, CHECKS
from llmserving.listening import Listening

if TYPE_CHECKING:
    from fastapi import FastAPI

    from llmserving.server import Server

log = logging.getLogger(__name__)

LAST_WORDS_SECONDS = 10  # for the running answers, which end with an error


class Watched:
    """Listen until a signal, or until the engine is dead or hangs; `trouble` says what of."""

    def __init__(self, server: Server, app: FastAPI) -> None:
        self.trouble: str | None = None
        self._failed = 0
        self._server = server
        self.uvicorn = Listening(
            uvicorn.Config(
                app,
                host=server.settings.host,
                port=server.settings.port,
                callback_notify=self.check,
                timeout_notify=CHECK_SECONDS,
            )
        )

    def run(self) -> int:
        """Serve, and return the exit code: 0 after a signal, 1 where the engine failed, 3 where it never began."""
        signal.signal(signal.SIGTERM, self._obey)  # uvicorn raises it again at its end, to be killed by it
        with contextlib.suppress(KeyboardInterrupt):
            self.uvicorn.run()
        if not self.uvicorn.started:
            return 3
        return 0 if self.trouble is None else 1

    def _obey(self, *_: object) -> None:
        self.uvicorn.should_exit = True

    async def check(self) -> None:
        """Look after the engine; end everything if it has failed several times."""
        try:
            self._server.engine.check_health()
            self._failed = 0
        except Exception as error:  # noqa: BLE001 - whatever it is, no request would be answered
            self._failed += 1
            if self._failed == CHECKS:
                await self._end(str(error))

    async def _end(self, trouble: str) -> None:
        self.trouble = trouble
        log.error("the engine cannot work any more, and so the server ends: %s", trouble)
        self.uvicorn.config.timeout_graceful_shutdown = LAST_WORDS_SECONDS
        self.uvicorn.should_exit = True
        await asyncio.to_thread(self._server.close)  # a hanging engine would keep its callers waiting
