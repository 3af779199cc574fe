"""What a watch may do, and what is known afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from tests.support.reflecting import FAST, PATH, Reflection, rayservice
from tests.support.scripted import ScriptedApi, bookmark, event, hold, line, page, raw, refuse, stream
from tests.support.tcpproxy import TcpProxy
from tests.support.waiting import stays, until

Reflect = Callable[..., Reflection]


def test_a_list_comes_first_and_the_watch_begins_where_it_ended(api: ScriptedApi, reflect: Reflect):
    api.put(PATH, rayservice("a"))
    reflection = reflect()
    reflection.until_names("a")
    reflection.until_watching()
    listed, watched = api.seen[:2]
    assert listed.query == {"limit": "10"}, "no resourceVersion: a consistent read, not a cache"
    assert watched.version == str(api.version)
    assert watched.query["allowWatchBookmarks"] == "true"
    assert 240 <= int(watched.query["timeoutSeconds"]) <= 480
    api.put(PATH, rayservice("b"))
    reflection.until_names("a", "b")
    api.delete(PATH, "a")
    reflection.until_names("b")
    assert len(api.seen) == 2


@pytest.mark.fault(5)
def test_a_watch_that_ends_normally_is_resumed_without_a_list(api: ScriptedApi, reflect: Reflect):
    api.watches.append(stream(event("ADDED", rayservice("a", resourceVersion="150"))))
    api.watches.append(stream(bookmark(200)))
    reflection = reflect()
    reflection.until_watching(3)
    assert [seen.version for seen in api.watch_requests] == ["100", "150", "200"]
    assert len(api.list_requests) == 1
    assert (reflection.names, reflection.diary.failures) == ({"a"}, [])


@pytest.mark.fault(6)
@pytest.mark.parametrize("gone", ["in the stream", "as the answer"])
def test_an_expired_watch_leads_to_one_list_that_finds_the_deletes_of_the_gap(
    api: ScriptedApi, reflect: Reflect, gone: str
):
    api.put(PATH, rayservice("a"))
    api.put(PATH, rayservice("b"))
    reflection = reflect()
    reflection.until_names("a", "b")
    reflection.until_watching()
    expired = stream(event("ERROR", {"code": 410, "reason": "Expired"})) if gone == "in the stream" else refuse(410)
    api.watches.append(expired)
    api.lists.append(page([rayservice("b")], 900))  # what happened to a was told to nobody
    woken = reflection.diary.wakes
    api.cut()
    reflection.until_names("b")
    reflection.until_watching(3)
    assert len(api.list_requests) == 2
    assert reflection.diary.wakes > woken
    assert "expired" in reflection.diary.reasons
    assert reflection.diary.repairs == [], "what a list finds after a failure is no fault of the watch"


@pytest.mark.fault(6)
def test_an_expired_watch_over_which_nothing_changed_wakes_nobody(api: ScriptedApi, reflect: Reflect):
    api.put(PATH, rayservice("a"))
    api.watches.extend([stream(event("ERROR", {"code": 410})), refuse(410)])
    reflection = reflect()
    reflection.until_watching(3)
    assert len(api.list_requests) == 3
    assert reflection.diary.wakes == 2, "for the first list, and for being synced"


@pytest.mark.fault(6)
def test_expiry_over_and_over_is_slowed_down(api: ScriptedApi, reflect: Reflect):
    api.always = lambda seen: refuse(410) if "watch" in seen.query else None
    reflect(replace(FAST, backoff_cap=0.2))
    until("seven watches", lambda: len(api.watch_requests) >= 7)
    assert _pauses(api.watch_requests) >= [0.02, 0.04, 0.08, 0.16, 0.2, 0.2]


@pytest.mark.fault(3)
@pytest.mark.fault(6)
def test_a_server_that_comes_back_and_has_forgotten_is_listed_soon(api: ScriptedApi, reflect: Reflect):
    api.watches.extend([*[stream(end="cut")] * 5, refuse(410)])
    reflection = reflect(replace(FAST, backoff_first=0.05, backoff_cap=5.0, silence=5.0))
    reflection.until_watching(7)
    first, again = api.list_requests
    assert first.at < api.watch_requests[5].at < again.at
    # the sixth failure in a row would wait for 1.6 s at least
    assert again.at - api.watch_requests[5].at < 1.6


@pytest.mark.fault(8)
def test_a_dead_watch_is_noticed_and_what_was_missed_is_delivered(api: ScriptedApi, proxy: TcpProxy, reflect: Reflect):
    api.put(PATH, rayservice("a"))
    reflection = reflect(url=f"http://127.0.0.1:{proxy.port}")
    reflection.until_names("a")
    reflection.until_watching()
    proxy.freeze()  # no FIN, no RST: a router forgot the connection
    api.put(PATH, rayservice("b"))
    api.delete(PATH, "a")
    reflection.until_names("b")
    assert "Timeout" in reflection.diary.failures[0][1]
    assert len(api.list_requests) == 1, "the watch was resumed"


def test_a_half_closed_watch_is_resumed(api: ScriptedApi, proxy: TcpProxy, reflect: Reflect):
    reflection = reflect(url=f"http://127.0.0.1:{proxy.port}")
    reflection.until_watching()
    until("the stream is open", lambda: reflection.diary.contacts >= 2)
    proxy.half_close()
    reflection.until_watching(2)
    api.put(PATH, rayservice("a"))
    reflection.until_names("a")
    assert len(api.list_requests) == 1


@pytest.mark.slow
def test_a_watch_with_an_event_now_and_then_outlives_the_silence_limit(api: ScriptedApi, reflect: Reflect):
    reflection = reflect(replace(FAST, silence=2.0))
    reflection.until_watching()
    for _ in range(12):
        api.put(PATH, rayservice("a"))
        stays("no failure", lambda: not reflection.diary.failures, 0.2)
    assert len(api.watch_requests) == 1


@pytest.mark.fault(10)
def test_half_an_event_is_thrown_away_and_delivered_whole_by_the_next_watch(api: ScriptedApi, reflect: Reflect):
    half = line(event("ADDED", rayservice("b", resourceVersion="151")))[:40]
    api.watches.append(stream(event("ADDED", rayservice("a", resourceVersion="150")), half, end="cut"))
    api.watches.append(stream(event("ADDED", rayservice("b", resourceVersion="151")), end="held"))
    reflection = reflect()
    reflection.until_names("a", "b")
    assert [seen.version for seen in api.watch_requests] == ["100", "150"]
    assert len(api.list_requests) == 1


def test_an_event_that_comes_in_many_pieces_is_one_event(api: ScriptedApi, reflect: Reflect):
    text = line(event("ADDED", rayservice("a", annotations={"x": "y" * 300_000}, resourceVersion="150")))
    api.watches.append(stream(*(text[i : i + 7000] for i in range(0, len(text), 7000)), b"\n", end="held"))
    reflect().until_names("a")


@pytest.mark.fault(18)
@pytest.mark.parametrize(
    "watch",
    [
        stream(),
        stream(bookmark(100)),
        stream(event("ADDED", rayservice("a", resourceVersion="60"))),
        stream(end="cut"),
        stream(event("ERROR", {"code": 500, "message": "etcdserver: leader changed"})),
        stream(event("ERROR", {})),
        stream(event("ERROR", None)),
        stream(b"<html>bad gateway</html>\n"),
        refuse(500),
        refuse(503),
        raw(b"", 302, Location="/elsewhere"),
    ],
    ids=["empty", "old bookmark", "old event", "cut", "ERROR 500", "ERROR without code", "ERROR without status",
         "html", "500", "503", "redirect"],
)  # fmt: skip
def test_a_watch_that_fails_again_and_again_is_asked_for_ever_more_slowly(api: ScriptedApi, reflect: Reflect, watch):
    api.always = lambda seen: watch if "watch" in seen.query else None
    reflection = reflect()
    until("seven watches", lambda: len(api.watch_requests) >= 7)
    gaps = _pauses(api.watch_requests)
    assert all(gap >= least for gap, least in zip(gaps, [0.02, 0.04, 0.08, 0.16, 0.3, 0.3], strict=False)), gaps
    assert reflection.names == set()


@pytest.mark.fault(18)
def test_a_server_that_refuses_everything_keeps_its_routes_and_its_peace(api: ScriptedApi, reflect: Reflect):
    api.put(PATH, rayservice("a"))
    reflection = reflect()
    reflection.until_watching()
    api.always = lambda _: refuse(500)
    begin = len(api.seen)
    api.cut()
    until("six more", lambda: len(api.seen) >= begin + 6)
    gaps = _pauses(api.seen[begin:])
    assert all(gap >= least for gap, least in zip(gaps, [0.02, 0.04, 0.08, 0.16, 0.3], strict=False)), gaps
    assert reflection.names == {"a"}
    reflection.until_condition("unreachable")
    api.always = lambda _: None
    api.put(PATH, rayservice("b"))
    reflection.until_names("a", "b")
    reflection.until_condition("synced")


@pytest.mark.slow
def test_after_a_healthy_time_the_first_pause_is_short_again(api: ScriptedApi, reflect: Reflect):
    api.watches.extend([refuse(500)] * 5)
    reflection = reflect(replace(FAST, backoff_first=0.05, backoff_cap=5.0, healthy=0.5, silence=5.0))
    reflection.until_watching(6)
    stays("no failure", lambda: len(reflection.diary.failures) == 5, 0.6)
    api.watches.append(refuse(500))
    api.cut()
    reflection.until_watching(8)
    # the seventh failure in a row would wait for 3.2 s at least
    assert api.watch_requests[7].at - api.watch_requests[6].at < 3.0


@pytest.mark.fault(17)
@pytest.mark.parametrize("where", ["list", "watch"])
def test_retry_after_is_obeyed(api: ScriptedApi, reflect: Reflect, where: str):
    (api.lists if where == "list" else api.watches).append(refuse(429, "slow down", Retry_After="1"))
    reflection = reflect()
    reflection.until_watching(1 if where == "list" else 2)
    asked = api.list_requests if where == "list" else api.watch_requests
    assert asked[1].at - asked[0].at >= 1.0
    assert len(api.list_requests) == (2 if where == "list" else 1), "being throttled is no reason to list again"
    assert reflection.diary.reasons == ["throttled"]


@pytest.mark.fault(17)
@pytest.mark.parametrize("value", ["99999999", "inf"])
def test_an_absurd_retry_after_is_cut_short(api: ScriptedApi, reflect: Reflect, value: str):
    api.lists.append(refuse(429, Retry_After=value))
    reflect().until_names()
    assert api.list_requests[1].at - api.list_requests[0].at >= 1.2


@pytest.mark.fault(17)
@pytest.mark.parametrize("value", ["soon", "nan", "-5", "Wed, 21 Oct 2026 07:28:00 GMT", ""])
def test_a_senseless_retry_after_is_ignored(api: ScriptedApi, reflect: Reflect, value: str):
    api.lists.append(refuse(429, Retry_After=value))
    reflect().until_names()


def test_a_list_now_and_then_finds_what_the_watch_did_not_tell(api: ScriptedApi, reflect: Reflect):
    api.put(PATH, rayservice("a"))
    reflection = reflect(replace(FAST, relist=(1.2, 1.2)))
    reflection.until_watching()
    api.objects[PATH]["b"] = rayservice("b")  # without an event

    def found() -> bool:
        api.put(PATH, rayservice("a"))  # a heartbeat, so that the watch is alive and well
        return reflection.names == {"a", "b"}

    until("listed again", found)
    until("and told", lambda: reflection.diary.repairs)
    assert reflection.diary.repairs == [1]
    assert reflection.diary.failures == []


def test_a_watch_that_waits_for_its_first_byte_for_ever_is_given_up(api: ScriptedApi, reflect: Reflect):
    api.watches.append(hold)
    reflection = reflect()
    reflection.until_watching(2)
    assert reflection.diary.reasons == ["unreachable"]


def _pauses(seen) -> list[float]:
    return [later.at - sooner.at for sooner, later in pairwise(seen)]
