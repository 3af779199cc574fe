"""Work in a thread, of which nothing is kept once nobody waits for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

Made = TypeVar("Made")


async def in_thread(work: Callable[[], Made], pool: Executor | None = None) -> Made:
    """Return what the work returns, done in a thread of the pool, or of the event loop's own.

    An executor keeps what was cancelled until a thread comes to its place in the line, so what is there is a list that
    has lost the work. Work that a thread has begun goes on, and is kept until it is done.
    """
    held = [work]
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, _do, held)
    finally:
        held.clear()


def _do(held: list[Callable[[], Made]]) -> Made:
    """Do the work; where it went in the moment in which its turn came, the IndexError is told to nobody."""
    return held.pop()()
