"""Unix signals become the loop's flags."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from rayproxy.reconcile.loop import Signals

STOP = (signal.SIGTERM, signal.SIGINT)
RESYNC = (signal.SIGHUP, signal.SIGUSR1)


@contextlib.contextmanager
def handled(signals: Signals) -> Iterator[None]:
    """Set the flags that signals ask for, whatever the main thread does meanwhile.

    A handler runs in the midst of the main thread, or of another handler. A flag's lock may be held there, and to wait
    for it would be for ever; SimpleQueue.put alone may be called anywhere
    (https://docs.python.org/3/library/queue.html#queue.SimpleQueue.put).
    """
    seen: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def note(number: int, _: FrameType | None) -> None:
        seen.put(number)

    def obey() -> None:
        for number in iter(seen.get, None):
            if number == signal.SIGINT and signals.stop.is_set():
                os._exit(130)
            (signals.stop if number in STOP else signals.resync).set()
            signals.wake.set()

    threading.Thread(target=obey, name="signals", daemon=True).start()
    before = {number: signal.signal(number, note) for number in (*STOP, *RESYNC)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        seen.put(None)
