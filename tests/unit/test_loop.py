"""When the loop looks again: as soon as there is room for a reload, and when a change has waited long enough."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from rayproxy.nginx.procfs import Process
from rayproxy.reconcile.loop import Loop, Signals
from rayproxy.reconcile.plan import Changes
from rayproxy.reconcile.reconciler import Outcome, Reconciler
from tests.support.routes import CONF
from tests.support.waiting import stays, until


@dataclass
class World:
    """A reconciler, its nginx and its rules; `again` is when a change may go that waits."""

    draining: int = 0
    again: float | None = None
    looks: int = 0
    done: int = 0
    nginx: Any = field(init=False)
    rules: Any = field(init=False)

    def __post_init__(self) -> None:
        self.nginx = self.config = self

    settings = CONF.settings

    def master(self) -> Process:
        return Process(1, "now")

    def workers(self, _: Process) -> dict[Process, bool]:
        return {Process(number, "now"): number > 2 for number in range(1, 3 + self.draining)}

    def run_once(self, *, resync: bool) -> Outcome:
        del resync
        self.looks += 1
        if self.draining >= self.settings.max_draining:
            return Outcome((), (), "r", Changes(), reloaded=False, waits="changes wait")
        self.done += 1
        return Outcome((), (), "r", Changes(), reloaded=False, again=self.again)


class Silent:
    """A report that is not read."""

    def done(self, *_: object) -> None: ...

    def failed(self, _: Exception) -> None: ...

    def nginx(self, *_: int) -> None: ...


@contextmanager
def running(world: World) -> Iterator[Loop]:
    signals = Signals(threading.Event(), threading.Event(), threading.Event())
    loop = Loop(cast("Reconciler", world), Silent(), signals, 600.0)
    loop._retry.wait = 60.0  # after failures for a while
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        yield loop
    finally:
        signals.stop.set()
        signals.wake.set()
        thread.join()


@pytest.mark.fault(71)
def test_what_waited_for_room_goes_as_soon_as_a_worker_has_ended():
    world = World(draining=CONF.settings.max_draining)
    with running(world):
        until("it has looked", lambda: world.looks)
        stays("it waits", lambda: world.done == 0, 1)
        world.draining -= 1
        until("it looks again, and not after a minute", lambda: world.done, 10)


@pytest.mark.fault(70)
def test_a_change_that_has_waited_long_enough_is_looked_at_without_a_new_one():
    world = World(again=time.monotonic() + 1.5)
    with running(world):
        until("it has looked", lambda: world.done)
        before = world.done
        world.again = None
        until("it looks again", lambda: world.done > before, 10)
        stays("and only once", lambda: world.done == before + 1, 1)
