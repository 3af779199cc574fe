"""The second look, in a thread of its own: whoever waits for it waits in short steps, and no longer than it may.

A list takes as long as the API server likes, page after page. Meanwhile the loop must turn, and see a stop and an
nginx that died.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from rayproxy.model import Snapshot
from rayproxy.nginx.process import StoppingError
from rayproxy.sources.base import UnconfirmedError

BOUND = 10.0  # s that it is waited for, from its beginning on
FRESH = 10.0  # s that what came later than that is good for
STEP = 0.05  # s


class SecondLook:
    """Look in a helper thread, one at a time; what comes too late wakes, and is there for whoever asks next."""

    def __init__(self, look: Callable[[], Snapshot], stop: threading.Event, wake: Callable[[], None]) -> None:
        self._look = look
        self._stop = stop
        self._wake = wake
        self._begun: _Begun | None = None
        self._failed: BaseException | None = None  # why the last one that ended said nothing

    def take(self) -> Snapshot:
        """Return what is found, or raise what was raised; UnconfirmedError while that takes too long.

        Where the last one failed that is raised instead: looks that fail late, one after the other, are one failure.
        """
        before = None if self._begun is None or self._begun.stale else self._begun
        begun = self._begun = before or _Begun(self._look, self._wake)
        while not begun.found.done():
            if begun.age > BOUND:
                raise self._why()
            if self._stop.wait(STEP):
                raise StoppingError
        self._begun = None
        self._failed = begun.found.exception()
        if before and not self._failed:  # what changed since is not in it, and may have woken for this cycle alone
            self._wake()
        return begun.found.result()

    def _why(self) -> BaseException:
        if self._failed:
            return self._failed.with_traceback(None)  # else it grows each time that it is raised
        return UnconfirmedError(f"a second look at what is there has not ended within {BOUND:g} s")


class _Begun:
    """A look that has begun, and may have ended."""

    def __init__(self, look: Callable[[], Snapshot], wake: Callable[[], None]) -> None:
        self.found: Future[Snapshot] = Future()
        self._began = time.monotonic()
        self._ended = float("inf")
        threading.Thread(target=self._run, args=(look, wake), name="second-look", daemon=True).start()

    @property
    def age(self) -> float:
        """Return how long ago it began."""
        return time.monotonic() - self._began

    @property
    def stale(self) -> bool:
        """Tell whether it ended so long ago that what it found says nothing of now."""
        return time.monotonic() - self._ended > FRESH

    def _run(self, look: Callable[[], Snapshot], wake: Callable[[], None]) -> None:
        try:
            found = look()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            self._ended = time.monotonic()
            self.found.set_exception(error)
        else:
            self._ended = time.monotonic()
            self.found.set_result(found)
        if self.age > BOUND:
            wake()
