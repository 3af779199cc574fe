"""What a list may do: it is whole, or it is nothing."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rayproxy.kube.api import ApiError, Deadlines
from tests.support.reflecting import PATH, QUICK, Reflection, anonymous, rayservice
from tests.support.scripted import ScriptedApi, hold, page, raw, refuse
from tests.support.tcpproxy import TcpProxy
from tests.support.waiting import until

Reflect = Callable[..., Reflection]
ROOT = Path(__file__).parents[3]
# Lists once, and prints how many objects came and by how many KiB the process grew for it at its largest.
MEASURE = """
import resource, sys
from tests.support.reflecting import FAST, Diary
from rayproxy.kube.api import ApiServer, Login
from rayproxy.sources.kubernetes import listed
from rayproxy.kinds.rayservice import RAYSERVICES
from rayproxy.sources.reflector import Reflector
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
diary = Diary()
api = ApiServer(lambda: Login(sys.argv[1]), 60.0)
reflector = Reflector(api, listed(RAYSERVICES, "", None), diary.wake, diary, FAST)
before = peak()
print(len(reflector.refresh()), peak() - before)
"""


def _listing(body: object) -> bytes:
    return json.dumps(body).encode()


def test_pages_are_joined(api: ScriptedApi, reflect: Reflect):
    api.lists += [page([rayservice("a")], 7, "one"), page([rayservice("b")], 7, "two"), page([rayservice("c")], 7)]
    reflection = reflect()
    reflection.until_names("a", "b", "c")
    assert [seen.query.get("continue") for seen in api.list_requests] == [None, "one", "two"]
    assert [seen.query["limit"] for seen in api.list_requests] == ["10", "40", "160"], "small objects, larger pages"
    reflection.until_watching()
    assert api.watch_requests[0].version == "7"


def test_pages_of_large_objects_stay_small(api: ScriptedApi, reflect: Reflect):
    large = {"annotations": {"note": "x" * 1_400_000}}
    api.lists += [page([rayservice(f"a{number}", **large) for number in range(10)], 7, "more")]
    api.lists += [page([rayservice("b")], 7, "more"), page([rayservice("c")], 7)]
    reflect().until_names("b", "c", *(f"a{number}" for number in range(10)))
    assert [seen.query["limit"] for seen in api.list_requests] == ["10", "2", "8"]


@pytest.mark.fault(64)
@pytest.mark.parametrize("content", ["text", "empty lists"])
def test_memory_is_bounded_by_what_is_kept_and_not_by_what_was_sent(api: ScriptedApi, content: str):
    """40 RayServices of 1.4 MB come in one page, as a tenant can make them: 56 MB of text, up to 1 GB as objects."""
    junks: dict[str, dict[str, Any]] = {
        "text": {"annotations": {"note": "x" * 1_400_000}},
        "empty lists": {"junk": [[]] * 350_000},
    }
    objects = [json.dumps(rayservice(f"a{number}", **junks[content])).encode() for number in range(40)]
    body = b'{"kind":"RayServiceList","metadata":{"resourceVersion":"7"},"items":[%s]}' % b",".join(objects)
    api.lists.append(raw(body))
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, api.url], check=True, capture_output=True, text=True, cwd=ROOT
    )
    listed, kib = measured.stdout.split()
    assert listed == "40"
    assert int(kib) < 50 * 1024


@pytest.mark.fault(7)
def test_a_page_that_expired_starts_the_list_anew_and_no_half_list_is_seen(api: ScriptedApi, reflect: Reflect):
    gate = threading.Event()

    def late(connection) -> None:
        gate.wait(10)
        page([rayservice("c")], 9)(connection)

    api.lists += [page([rayservice("a")], 7, "one"), refuse(410, "the provided continue parameter is too old")]
    api.lists += [page([rayservice("b")], 9, "again"), late]
    reflection = reflect()
    until("the last page is asked for", lambda: len(api.list_requests) == 4)
    assert reflection.names is None
    gate.set()
    reflection.until_names("b", "c")
    assert [seen.query.get("continue") for seen in api.list_requests] == [None, "one", None, "again"]
    assert reflection.diary.failures == []


@pytest.mark.fault(7)
def test_pages_that_expire_for_ever_are_asked_for_ever_more_slowly(
    api: ScriptedApi, reflect: Reflect, monkeypatch: pytest.MonkeyPatch
):
    api.put(PATH, rayservice("a"))
    reflection = reflect()
    reflection.until_watching()
    begin, note = len(api.seen), reflection.diary.failure
    rounds: list[int] = []

    def failure(resource: str, reason: str, message: str) -> None:
        """Count in the reflector's own thread: a test that looks later finds more of them."""
        firsts = [seen for seen in api.seen[begin:] if "watch" not in seen.query and "continue" not in seen.query]
        rounds.append(len(firsts))
        note(resource, reason, message)

    monkeypatch.setattr(reflection.diary, "failure", failure)
    api.always = lambda seen: (
        refuse(410) if "continue" in seen.query or "watch" in seen.query else page([rayservice("b")], 900, "one")
    )
    api.cut()
    reflection.until_failed("expired", 4)
    fourth = [place for place, reason in enumerate(reflection.diary.reasons) if reason == "expired"][3]
    assert rounds[fourth] <= 4 * 5, "four tries, then a pause"
    assert reflection.names == {"a"}, "half a list is none"


@pytest.mark.fault(9)
def test_a_dead_list_is_given_up_and_tried_again(api: ScriptedApi, proxy: TcpProxy, reflect: Reflect):
    api.put(PATH, rayservice("a"))
    proxy.hang()
    reflection = reflect(url=f"http://127.0.0.1:{proxy.port}")
    reflection.until_failed("unreachable")
    assert reflection.names is None
    proxy.flow()
    reflection.until_names("a")


@pytest.mark.fault(9)
def test_a_request_is_sent_once_and_not_repeated_behind_ones_back(api: ScriptedApi):
    api.lists.append(hold)
    with pytest.raises(ApiError, match="Timeout"):
        anonymous(api.url).get(PATH)
    assert len(api.seen) == 1


@pytest.mark.fault(9)
def test_an_answer_that_trickles_is_given_up_at_the_deadline(api: ScriptedApi):
    def trickle(connection) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{")
        connection.settimeout(QUICK.silence / 3)
        while True:
            try:
                connection.recv(1)
                return
            except TimeoutError:
                connection.sendall(b" ")

    api.lists.append(trickle)
    with pytest.raises(ApiError, match="did not end in time"):
        anonymous(api.url).get(PATH)


@pytest.mark.fault(10)
@pytest.mark.parametrize("missing", [1, 30])
def test_a_list_that_is_cut_short_is_no_list(api: ScriptedApi, reflect: Reflect, missing: int):
    whole = _listing({"metadata": {"resourceVersion": "7"}, "items": [rayservice("a")]})

    def short(connection) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(whole), whole[:-missing]))
        connection.shutdown(2)

    api.lists.append(short)
    api.lists.append(page([rayservice("b")], 8))
    reflection = reflect()
    reflection.until_names("b")
    assert len(reflection.diary.failures) == 1


@pytest.mark.fault(22)
@pytest.mark.parametrize(
    "answer",
    [
        raw(b"<html>welcome to your load balancer</html>"),
        raw(b""),
        raw(b"[]"),
        raw(b"null"),
        raw(_listing({"items": []})),
        raw(_listing({"metadata": {}, "items": {"a": 1}})),
        raw(_listing({"kind": "Status", "status": "Success"})),
        raw(b'{"items":' * 3000),
        raw(b"\xff\xfe{}"),
        raw(b"", 204),
        raw(b"", 302, Location="http://127.0.0.1:1/"),
    ],
)
def test_an_answer_that_is_no_list_is_an_error_and_not_emptiness(api: ScriptedApi, reflect: Reflect, answer):
    api.put(PATH, rayservice("a"))
    api.lists.append(answer)
    reflection = reflect()
    reflection.until_failed("garbled")
    assert reflection.names != set()
    reflection.until_names("a")


@pytest.mark.parametrize(
    ("status", "condition", "reason"),
    [(403, "forbidden", "forbidden"), (404, "crd-absent", "not_found"), (401, "forbidden", "unauthorized"),
     (500, "unsynced", "server_error")],
)  # fmt: skip
def test_a_refused_list_has_a_state_of_its_own_and_is_tried_again(
    api: ScriptedApi, reflect: Reflect, status: int, condition: str, reason: str
):
    api.put(PATH, rayservice("a"))
    api.always = lambda _: refuse(status, "the reason why")
    reflection = reflect()
    reflection.until_failed(reason, 2)
    reflection.until_condition(condition)
    assert "the reason why" in reflection.diary.failures[0][1]
    assert reflection.names is None
    woken = reflection.diary.wakes
    api.always = lambda _: None
    reflection.until_names("a")
    reflection.until_condition("synced")
    assert reflection.diary.wakes > woken


def test_a_404_in_plain_text_counts_as_one(api: ScriptedApi, reflect: Reflect):
    api.always = lambda _: raw(b"404 page not found\n", 404)
    reflection = reflect()
    reflection.until_failed("not_found")
    assert "404 page not found" in reflection.diary.failures[0][1]


@pytest.mark.fault(20)
def test_what_a_watch_has_told_while_a_list_was_confirmed_is_not_undone(api: ScriptedApi, reflect: Reflect):
    """A confirming list is newer than the stream: what the stream says later about the time before it is known."""
    api.put(PATH, rayservice("a"))
    reflection = reflect()
    reflection.until_watching()
    api.lists.append(page([rayservice("b")], 700))
    assert {key.name for key in reflection.reflector.refresh()} == {"b"}
    api.version = 650
    api.put(PATH, rayservice("c"))  # told with version 651, though the list of 700 has it not
    api.version = 800
    api.put(PATH, rayservice("d"))
    reflection.until_names("b", "d")


@pytest.mark.fault(20)
def test_a_watch_that_tells_more_while_a_list_comes_is_no_replica_that_lags(api: ScriptedApi, reflect: Reflect):
    """Where many objects go at once the watch tells all the while, just when a list is to confirm that."""
    api.put(PATH, rayservice("a"))
    api.put(PATH, rayservice("b"))
    older = page([rayservice("a"), rayservice("b")], api.version)
    reflection = reflect(deadlines=Deadlines())
    reflection.until_watching()

    def outrun(connection: socket.socket) -> None:
        api.delete(PATH, "b")
        api.put(PATH, rayservice("c"))
        reflection.until_names("a", "c")
        older(connection)

    api.lists.append(outrun)
    confirmed = reflection.reflector.refresh()
    assert {key.name for key in confirmed} == {"a", "b", "c"}, "b was there when the list was made"
    assert reflection.names == {"a", "c"}, "what the watch told is newer"
    assert api.list_requests[1:], "it was the list that the watch outran"
