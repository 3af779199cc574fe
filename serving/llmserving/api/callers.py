"""Work for a caller ends with the caller, who may hang up at any time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import ClientDisconnect

from llmserving.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Executor

    from starlette.types import Receive

Made = TypeVar("Made")

CALLER: ContextVar[Receive] = ContextVar("CALLER")  # of the request that is at work here; its body has been read


async def beside(work: Callable[[], Made], pool: Executor | None = None) -> Made:
    """Return what the work returns, done in a thread; raise ClientDisconnect as soon as the caller hangs up.

    Not for what is done at once: a caller who sends no more, and reads its answer, looks like one who has hung up.
    """
    return await while_there(CALLER.get(), in_thread(work, pool))


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
