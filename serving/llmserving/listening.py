"""uvicorn, which cuts off whoever takes nothing of an answer.

What it cannot send keeps its connection, however that is closed, and with it the memory and the end of the server.
The kernel's own limit (TCP_USER_TIMEOUT) is none for this: it cuts off those too who read on in small steps.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import uvicorn

from llmserving.api import answer
from llmserving.engines.base import CHECK_SECONDS

if TYPE_CHECKING:
    from uvicorn.server import Protocols

log = logging.getLogger(__name__)

ACKED = slice(120, 128)  # of the kernel's tcp_info: how many bytes the other side has taken


class Listening(uvicorn.Server):
    """Look after its connections each second, also while it ends."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stalled: dict[Protocols, tuple[int, int]] = {}  # the bytes taken, and how often they were the same

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self._watch = asyncio.create_task(self._look_again_and_again())

    async def _look_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self._look()

    def _look(self) -> None:
        """Cut off who has taken nothing for so many looks: a machine that was asleep has looked once meanwhile."""
        before, self._stalled = self._stalled, {}
        for connection in [each for each in self.server_state.connections if each.transport.get_write_buffer_size()]:
            with suppress(OSError):  # it has just ended
                now = taken(connection.transport)
                then, looks = before.get(connection, (now, -1))
                looks = looks + 1 if now == then else 0
                self._stalled[connection] = now, looks
                if looks * CHECK_SECONDS >= answer.SLOW_READER_SECONDS:
                    seconds = answer.SLOW_READER_SECONDS
                    log.warning("a connection was cut off: nothing of its answer was taken for %g seconds", seconds)
                    connection.transport.abort()


def taken(transport: asyncio.Transport) -> int:
    """Return how many bytes the other side of a connection has taken."""
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as same:  # uvloop's own tells none
        return int.from_bytes(same.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, ACKED.stop)[ACKED], sys.byteorder)
