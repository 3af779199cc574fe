"""Threads for work that may not end by itself: each piece of it is ended when its time is up, or its caller gone.

An exception is thrown into the thread. That ends whatever is Python, which goes from line to line; a single operation
cannot be ended, and keeps its thread until it is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

THREADS = 2  # one process runs Python in one thread at a time: each of these takes its turns from the event loop
MOST_WAITING = 64
AGAIN_SECONDS = 0.1  # some code drops what is thrown into it, as Jinja does where it looks a name up


class OvertimeError(Exception):
    """The work has taken longer than it may; thrown into its thread too."""


class CrowdedError(Exception):
    """The work could not begin: the threads are all busy, and too many wait, or one has waited too long."""


class Workshop:
    """A few threads, and a line before them that has an end."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="workshop")
        self._free = asyncio.Semaphore(THREADS)
        self._waiting = 0

    async def do(self, work: Callable[[], str], seconds: float) -> str:
        """Return what the work returns; raise OvertimeError where it takes longer, CrowdedError where it cannot begin.

        It is ended with its caller too.
        """
        await self._wait_for_a_thread(seconds)
        loop, call = asyncio.get_running_loop(), Call(work)
        future = self._threads.submit(call)
        future.add_done_callback(lambda _: _tell(loop, self._free.release))
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise OvertimeError from None
        finally:
            _end(call, future)

    async def _wait_for_a_thread(self, seconds: float) -> None:
        if self._free.locked() and self._waiting >= MOST_WAITING:
            raise CrowdedError
        self._waiting += 1
        try:
            async with asyncio.timeout(seconds):
                await self._free.acquire()
        except TimeoutError:
            raise CrowdedError from None
        finally:
            self._waiting -= 1


def at_once(work: Callable[[], str], seconds: float) -> str:
    """Return what the work returns, done in this thread; raise OvertimeError where it takes longer."""
    call, done = Call(work), threading.Event()
    threading.Thread(target=_watch, args=(call, done, seconds), daemon=True).start()
    try:
        return call()
    finally:
        done.set()


def _watch(call: Call, done: threading.Event, seconds: float) -> None:
    """End the work when its time is up, again and again while it goes on."""
    while not done.wait(seconds):
        call.end()
        seconds = AGAIN_SECONDS


class Call:
    """Work that another thread can end while it runs, and not a moment later."""

    def __init__(self, work: Callable[[], str]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._over = False

    def __call__(self) -> str:
        """Do the work; raise OvertimeError where it was ended."""
        self._begin()
        try:
            return self._work()
        finally:
            with self._lock:
                _throw(self._thread, None)  # what was thrown and has not yet come is taken back
                self._thread = None

    def _begin(self) -> None:
        with self._lock:
            if self._over:
                raise OvertimeError
            self._thread = threading.get_ident()

    def end(self) -> None:
        """Throw OvertimeError into the work, or keep it from beginning."""
        with self._lock:
            self._over = True
            if self._thread is not None:
                _throw(self._thread, OvertimeError)


def _end(call: Call, future: Future[str]) -> None:
    """End the work, again and again while it goes on."""
    if not future.done():
        call.end()
        asyncio.get_running_loop().call_later(AGAIN_SECONDS, _end, call, future)


def _throw(thread: int | None, error: type[Exception] | None) -> None:
    what = ctypes.py_object() if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread or 0), what)


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # it is closed: nobody waits any more
        loop.call_soon_threadsafe(what)
