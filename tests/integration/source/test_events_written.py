"""Events, and an API server that has no time for them, or is away for a moment."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rayproxy.kube.login import connect_by_kubeconfig
from rayproxy.report import events
from rayproxy.report.events import TRIES, Event, Recorder
from tests.support.http import free_port
from tests.support.manifests import ref
from tests.support.scripted import ScriptedApi, kubeconfig, raw, refuse
from tests.support.waiting import until

pytestmark = pytest.mark.fault(171)
WRITTEN = raw(b"{}", 201)


class Writing:
    """A recorder at work; `lost` are the words about those that it gave up."""

    def __init__(self, folder: Path, url: str) -> None:
        self.lost: list[str] = []
        self.stop = threading.Event()
        self._recorder = Recorder(connect_by_kubeconfig(str(kubeconfig(folder, url)), ""), self.lost.append, self.stop)
        self.thread = threading.Thread(target=self._recorder.run, daemon=True)
        self.thread.start()

    def record(self, count: int) -> None:
        for number in range(count):
            self._recorder.record(Event(ref(f"chat-{number}"), f"u{number}", "Normal", "RouteAccepted", "m"))


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[Callable[[str], Writing]]:
    made: list[Writing] = []

    def start(url: str) -> Writing:
        made.append(Writing(tmp_path, url))
        return made[-1]

    yield start
    for each in made:
        each.stop.set()
        each.record(1)  # one more, for it waits for that
        each.thread.join(10)


def test_a_server_that_asks_for_patience_gets_it_and_no_event_is_lost(
    writing: Callable[[str], Writing], api: ScriptedApi
):
    api.always = lambda _: refuse(429, "try again later", Retry_After="1") if len(api.seen) < 2 else WRITTEN
    one = writing(api.url)
    one.record(50)
    until("all are written", lambda: len(api.seen) == 52)
    assert one.lost == []
    first, second, third, *_ = (seen.at for seen in api.seen)
    assert min(second - first, third - second) >= 1.0


def test_a_server_that_is_away_for_a_moment_gets_them_when_it_is_back(
    writing: Callable[[str], Writing], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(events, "PAUSE", 0.1)
    port, tries = free_port(), threading.Semaphore(0)
    one = writing(f"http://127.0.0.1:{port}")
    send = one._recorder._api.send

    def counted(*what):
        tries.release()
        return send(*what)

    monkeypatch.setattr(one._recorder._api, "send", counted)
    one.record(50)
    assert all(tries.acquire(timeout=10) for _ in range(3))
    server = ScriptedApi(at=port, always=lambda _: WRITTEN)
    try:
        until("all are written", lambda: len(server.seen) == 50)
    finally:
        server.close()
    assert one.lost == []


@pytest.mark.parametrize("wish", [{}, {"Retry_After": "0"}, {"Retry_After": "nan"}, {"Retry_After": "-1"}])
def test_what_fails_again_and_again_is_given_up_and_counted_and_the_next_one_goes_on(
    writing: Callable[[str], Writing], api: ScriptedApi, monkeypatch: pytest.MonkeyPatch, wish: dict[str, str]
):
    monkeypatch.setattr(events, "PAUSE", 0.01)
    api.always = lambda _: refuse(503, "no leader", **wish) if len(api.seen) < TRIES else WRITTEN
    one = writing(api.url)
    one.record(2)
    until("the second is written", lambda: len(api.seen) == TRIES + 1)
    assert len(one.lost) == 1
    assert "no leader" in one.lost[0]


@pytest.mark.parametrize("status", [400, 403, 404, 422, 500])
def test_what_the_server_will_not_have_is_not_asked_again(
    writing: Callable[[str], Writing], api: ScriptedApi, status: int
):
    api.always = lambda _: refuse(status) if len(api.seen) < 1 else WRITTEN
    one = writing(api.url)
    one.record(2)
    until("the second is written", lambda: len(api.seen) == 2)
    assert len(one.lost) == 1


def test_one_that_was_written_though_no_answer_came_is_not_lost(
    writing: Callable[[str], Writing], api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(events, "PAUSE", 0.01)
    replies = iter([lambda connection: connection.shutdown(socket.SHUT_RDWR), refuse(409, "it is there"), WRITTEN])
    api.always = lambda _: next(replies)
    one = writing(api.url)
    one.record(2)
    until("both are", lambda: len(api.seen) == 3)
    assert one.lost == []


def test_a_stop_ends_the_waiting(writing: Callable[[str], Writing], api: ScriptedApi):
    api.always = lambda _: refuse(429, Retry_After="60")
    one = writing(api.url)
    one.record(1)
    until("it was asked", lambda: api.seen)
    one.stop.set()
    until("it has ended", lambda: not one.thread.is_alive(), 5)
    assert len(one.lost) == 1
