"""Work for a caller ends with the caller, who may hang up at any time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from starlette.types import Receive

Made = TypeVar("Made")


async def while_there(receive: Receive, work: Coroutine[Any, Any, Made]) -> Made:
    """Return what the work returns; cancel it and raise ClientDisconnect as soon as the caller hangs up.

    Only where the body has been read: what comes of it meanwhile would be lost.
    """
    task = asyncio.create_task(work)
    watcher = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        watcher.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def until_gone(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do the work that answers, or cancel it as soon as the caller hangs up, to whom nothing can be said then."""
    with suppress(ClientDisconnect):
        await while_there(receive, work)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
