"""Work that does not end by itself is ended, whatever its caller does, and holds up nobody but its like."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import wait_for
from llmserving import overtime
from llmserving.overtime import Call, CrowdedError, OvertimeError, Workshop


class Endless:
    """Work that goes on until something is thrown into it, `stubborn` times in vain; or until the test is over."""

    def __init__(self, stubborn=0):
        self.began, self.ended, self.stop = threading.Event(), threading.Event(), threading.Event()
        self._stubborn = stubborn

    def __call__(self):
        self.began.set()
        try:
            for _ in range(self._stubborn):
                try:
                    self._turn()
                except OvertimeError:
                    continue
            return self._turn()
        finally:
            self.ended.set()

    def _turn(self):
        while not self.stop.is_set():
            pass
        return "stopped"


class Prompt(ThreadPoolExecutor):
    """Threads that have begun endless work when it is handed over: else a short limit would end what never begins."""

    def submit(self, call):
        future, began = super().submit(call), getattr(call._work, "began", None)
        assert began is None or began.wait(30)
        return future


@pytest.fixture
def endless(monkeypatch):
    """Return a function that makes some, all of which end with the test."""
    monkeypatch.setattr(overtime, "ThreadPoolExecutor", Prompt)
    made = []

    def make(**more):
        made.append(Endless(**more))
        return made[-1]

    yield make
    for one in made:
        one.stop.set()


async def until(event):
    assert await asyncio.to_thread(event.wait, 30)


def test_a_caller_who_hangs_up_takes_no_limit_away(endless):
    work = endless()

    async def scenario():
        asking = asyncio.create_task(Workshop().do(work, 60))
        await until(work.began)
        asking.cancel()
        await until(work.ended)
        assert not work.stop.is_set()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(scenario())


def test_what_drops_the_exception_is_told_again(endless):
    work = endless(stubborn=3)

    async def scenario():
        with pytest.raises(OvertimeError):
            await Workshop().do(work, 0.05)
        await until(work.ended)
        assert not work.stop.is_set()

    asyncio.run(scenario())


def test_work_that_is_ended_before_it_begins_never_does():
    began = []
    call = Call(lambda: began.append(1))
    call.end()
    with pytest.raises(OvertimeError):
        call()
    assert not began


def test_a_thread_is_free_again_when_its_work_has_ended_and_not_before(endless):
    works = [endless(stubborn=3) for _ in range(overtime.THREADS)]

    async def scenario():
        workshop = Workshop()
        over = [workshop.do(work, 0.05) for work in works]
        assert [type(error) for error in await asyncio.gather(*over, return_exceptions=True)] == [OvertimeError] * 2
        assert not works[0].ended.is_set()
        assert await workshop.do(lambda: "done", 30) == "done"
        assert any(work.ended.is_set() for work in works)

    asyncio.run(scenario())


def test_the_line_has_an_end_and_so_has_the_wait_in_it(endless, monkeypatch):
    monkeypatch.setattr(overtime, "MOST_WAITING", 2)
    works = [endless() for _ in range(overtime.THREADS)]

    async def scenario():
        workshop = Workshop()
        running = [asyncio.create_task(workshop.do(work, 60)) for work in works]
        for work in works:
            await until(work.began)
        waiting = [asyncio.create_task(workshop.do(lambda: "done", 0.2)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(CrowdedError):
            await workshop.do(lambda: "done", 60)
        assert all(isinstance(e, CrowdedError) for e in await asyncio.gather(*waiting, return_exceptions=True))
        for one in running:
            one.cancel()
        assert await workshop.do(lambda: "done", 60) == "done"

    asyncio.run(scenario())


def test_work_that_takes_long_holds_up_no_other_thread_of_the_loop(endless):
    works = [endless() for _ in range(overtime.THREADS)]

    async def scenario():
        workshop = Workshop()
        running = [asyncio.create_task(workshop.do(work, 60)) for work in works]
        assert await asyncio.to_thread(lambda: "encoded") == "encoded"
        for one in running:
            one.cancel()
        for work in works:
            await until(work.ended)

    asyncio.run(scenario())


def test_nobody_hears_of_work_that_ends_after_its_loop(endless):
    work, workshop = endless(stubborn=10**6), Workshop()

    async def scenario():
        with pytest.raises(OvertimeError):
            await workshop.do(work, 0.05)

    asyncio.run(scenario())
    work.stop.set()
    wait_for(work.ended.is_set, "the work has ended", 30)
