"""What a watch tells: twice, too late, or not at all in Kubernetes' words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support.reflecting import FAST, PATH, Reflection, rayservice
from tests.support.scripted import ScriptedApi, bookmark, event, page, refuse, stream
from tests.support.waiting import until

Reflect = Callable[..., Reflection]


@pytest.mark.fault(21)
def test_what_is_known_already_wakes_nobody(api: ScriptedApi, reflect: Reflect):
    api.put(PATH, rayservice("a"))
    reflection = reflect()
    reflection.until_watching()
    known, woken = reflection.reflector.items(), reflection.diary.wakes
    again = rayservice("a", resourceVersion="201", annotations={"heartbeat": "1"})
    api.watches.append(
        stream(
            event("ADDED", again),
            event("MODIFIED", {**again, "metadata": {**again["metadata"], "resourceVersion": "202"}}),
            event("DELETED", rayservice("unknown", resourceVersion="203")),
            bookmark(204),
            end="held",
        )
    )
    contacts = reflection.diary.contacts
    api.cut()
    until("all of it was read", lambda: reflection.diary.contacts >= contacts + 5)
    assert reflection.reflector.items() == known
    # the cut itself is told twice: it is unreachable, and synced again
    assert reflection.diary.wakes == woken + 2


@pytest.mark.fault(22)
def test_an_object_that_cannot_be_read_is_skipped_and_told_and_the_others_are_not(api: ScriptedApi, reflect: Reflect):
    bad = [{"spec": None}, {"metadata": None}, {"metadata": {"name": 7, "namespace": []}}, "text", None, 3, []]
    api.lists.append(page([*bad, rayservice("a"), {**rayservice("b"), "spec": None, "status": "x"}], 100))
    api.watches.append(
        stream(
            {"type": "ADDED"},
            {"type": "ADDED", "object": [1]},
            {"type": 5, "object": {}},
            {},
            event("FROM-THE-FUTURE", rayservice("x", resourceVersion="105")),
            event("ADDED", rayservice("huge", annotations={"x": "y" * 1_000_000}, resourceVersion="106")),
            end="held",
        )
    )
    reflection = reflect()
    reflection.until_names("a", "b", "huge")
    assert len(api.list_requests) == 1
    assert reflection.reflector.problems
    assert all("skipped" in problem for problem in reflection.reflector.problems)


@pytest.mark.fault(22)
@pytest.mark.parametrize("text", [b"garbage\n", b"[1]\n", b'"x"\n', b"\xff\xfe\n", b'{"a":' * 5000 + b"\n"])
def test_a_line_that_is_no_event_leads_to_a_list_for_it_may_have_been_one(
    api: ScriptedApi, reflect: Reflect, text: bytes
):
    api.watches.append(stream(event("ADDED", rayservice("a", resourceVersion="150")), text, end="held"))
    api.lists.append(page([], 100))
    api.lists.append(page([rayservice("a"), rayservice("b")], 160))
    reflection = reflect()
    reflection.until_names("a", "b")
    assert reflection.diary.reasons == ["garbled"]


@pytest.mark.fault(20)
def test_a_stale_replica_brings_no_deleted_object_back(api: ScriptedApi, reflect: Reflect):
    api.put(PATH, rayservice("a"))
    api.put(PATH, rayservice("b"))
    old = page([rayservice("a"), rayservice("b")], api.version)
    reflection = reflect(replace(FAST, doubt=30.0))
    reflection.until_names("a", "b")
    api.delete(PATH, "a")
    reflection.until_names("b")
    api.watches.append(refuse(504, "Too large resource version"))
    api.lists.extend([old, old])
    seen: list[set[str] | None] = []
    api.cut()
    until("listed thrice again", lambda: seen.append(reflection.names) or len(api.list_requests) >= 4)
    reflection.until_watching(3)
    assert all(names == {"b"} for names in seen)
    assert reflection.diary.reasons.count("stale") == 2


@pytest.mark.fault(20)
def test_a_stream_that_repeats_the_past_changes_nothing(api: ScriptedApi, reflect: Reflect):
    api.put(PATH, rayservice("b"))
    api.version = 500
    past = [
        event("ADDED", rayservice("a", resourceVersion="90")),
        event("DELETED", rayservice("b", resourceVersion="95")),
    ]
    api.watches.append(stream(*past, event("ADDED", rayservice("c", resourceVersion="501")), end="held"))
    reflection = reflect()
    reflection.until_names("b", "c")


@pytest.mark.fault(20)
def test_an_older_list_that_persists_is_a_restored_etcd_and_is_believed(api: ScriptedApi, reflect: Reflect):
    api.put(PATH, rayservice("a"))
    api.version = 900
    reflection = reflect()
    reflection.until_watching()
    api.objects[PATH].clear()
    api.put(PATH, rayservice("restored"))
    api.version = 40
    api.watches.append(refuse(410))
    api.cut()
    reflection.until_names("restored")
    assert "stale" in reflection.diary.reasons
    reflection.until_watching(3)
    assert api.watch_requests[-1].version == "40"


def test_versions_that_are_no_numbers_are_taken_as_they_come(api: ScriptedApi, reflect: Reflect):
    api.lists.append(page([rayservice("a")], "zz"))
    api.watches.append(stream(event("ADDED", rayservice("b", resourceVersion="aa")), bookmark("mm")))
    reflection = reflect()
    reflection.until_names("a", "b")
    reflection.until_watching(2)
    assert [seen.version for seen in api.watch_requests[:2]] == ["zz", "mm"]
