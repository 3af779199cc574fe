"""The labels of namespaces, reflected while they are needed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest

from rayproxy.kinds.grants import Labels
from rayproxy.sources.base import UnconfirmedError
from rayproxy.sources.namespaces import MAX_LABELS, PATH, NamespaceSource
from rayproxy.sources.reflector import ReflectorConfig
from tests.support.reflecting import FAST, Diary, anonymous
from tests.support.scripted import ScriptedApi, refuse
from tests.support.waiting import stays, until


@dataclass
class Watched:
    """Hold a source whose thread runs, and what it told."""

    api: ScriptedApi
    timing: ReflectorConfig = FAST
    diary: Diary = field(default_factory=Diary)
    forgotten: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.source = NamespaceSource(anonymous(self.api.url), (self.diary.wake, self.diary), self.forgotten.append)
        self.source.timing = self.timing
        [(name, body)] = self.source.threads
        self.thread = threading.Thread(target=body, name=name, daemon=True)
        self.thread.start()

    def until_known(self, labels: Mapping[str, Labels | None]) -> None:
        until(f"{labels} is known", lambda: self.source.known() == labels)

    def until_watching(self, times: int = 1) -> None:
        until(f"{times} watches", lambda: len(self.api.watch_requests) >= times)


@pytest.fixture
def watched(api: ScriptedApi) -> Iterator[Watched]:
    made = Watched(api)
    yield made
    made.source.stop()
    api.close()
    made.thread.join(10)
    assert not made.thread.is_alive()


def namespace(name: str, note: str = "", **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels, "annotations": {"note": note}}}


@pytest.mark.fault(166)
def test_nobody_is_asked_while_labels_are_not_needed(api: ScriptedApi, watched: Watched):
    watched.source.need(needed=False)
    watched.source.look()
    stays("nothing is asked", lambda: not api.seen, 0.3)
    assert watched.source.known() is None
    assert watched.source.problems == ()
    assert watched.forgotten == []


def test_a_change_of_labels_is_told_and_another_one_is_not(api: ScriptedApi, watched: Watched):
    api.put(PATH, namespace("one", team="a"))
    watched.source.need(needed=True)
    watched.until_known({"one": {"team": "a"}})
    watched.until_watching()
    until("all is well", lambda: watched.source.problems == ())
    assert {seen.path for seen in api.seen} == {PATH}
    wakes = watched.diary.wakes
    api.put(PATH, namespace("one", "x", team="a"))
    api.put(PATH, namespace("two", team="b"))
    watched.until_known({"one": {"team": "a"}, "two": {"team": "b"}})
    assert watched.diary.wakes == wakes + 1
    api.put(PATH, namespace("one", team="c"))
    api.delete(PATH, "two")
    watched.until_known({"one": {"team": "c"}})
    until("both are told", lambda: watched.diary.wakes == wakes + 3)


def test_what_is_needed_no_more_is_asked_no_more_and_read_anew_when_it_is_needed_again(
    api: ScriptedApi, watched: Watched
):
    api.put(PATH, namespace("one", team="a"))
    watched.source.need(needed=True)
    watched.until_watching()
    watched.source.need(needed=False)
    api.put(PATH, namespace("one", team="b"))
    until("it is given up", lambda: watched.forgotten == ["namespaces"])
    assert watched.source.known() is None
    asked = len(api.seen)
    api.put(PATH, namespace("one", team="c"))
    stays("nothing is asked", lambda: len(api.seen) == asked, 0.3)
    watched.source.need(needed=True)
    watched.until_known({"one": {"team": "c"}})
    watched.until_watching(2)


def test_what_is_needed_again_at_once_goes_on_as_it_was(api: ScriptedApi, watched: Watched):
    api.put(PATH, namespace("one", team="a"))
    watched.source.need(needed=True)
    watched.until_watching()
    for needed in (False, True, False, True):
        watched.source.need(needed=needed)
        assert watched.source.known() == {"one": {"team": "a"}}
    api.put(PATH, namespace("one", team="b"))
    watched.until_known({"one": {"team": "b"}})
    api.put(PATH, namespace("one", team="c"))
    watched.until_known({"one": {"team": "c"}})
    assert len(api.seen) == 2, "a list and a watch"
    assert watched.forgotten == []


@pytest.mark.fault(166)
def test_what_is_forbidden_is_unknown_and_what_was_known_stays(api: ScriptedApi, watched: Watched):
    api.put(PATH, namespace("one", team="a"))
    api.always = lambda _: refuse(403)
    watched.source.need(needed=True)
    until("it is refused", lambda: watched.source.words == "/api/v1/namespaces: forbidden")
    assert watched.source.known() is None
    assert watched.source.problems == ()
    api.always = lambda _: None
    watched.until_known({"one": {"team": "a"}})
    watched.until_watching()
    api.always = lambda _: refuse(403)
    api.cut()
    said = "/api/v1/namespaces: forbidden; the labels of namespaces that are known go on being used"
    until("it is said", lambda: watched.source.problems == (said,))
    assert watched.source.known() == {"one": {"team": "a"}}
    with pytest.raises(UnconfirmedError, match=r"GET /api/v1/namespaces: 403"):
        watched.source.look()


@pytest.mark.fault(166)
def test_a_list_now_and_then_finds_labels_that_the_watch_did_not_tell(api: ScriptedApi):
    for name in ("beat", "changed", "gone"):
        api.put(PATH, namespace(name, team="a"))
    watched = Watched(api, replace(FAST, relist=(1.2, 1.2)))
    watched.source.need(needed=True)
    watched.until_watching()
    del api.objects[PATH]["gone"]  # these three without an event
    api.objects[PATH] |= {"changed": namespace("changed", team="b"), "new": namespace("new")}

    def found() -> bool:
        api.put(PATH, namespace("beat", team="a"))  # a heartbeat, so that the watch is alive and well
        return watched.source.known() == {"beat": {"team": "a"}, "changed": {"team": "b"}, "new": {}}

    until("listed again", found)
    until("told, and watched anew", lambda: watched.diary.repairs == [3] and len(api.watch_requests) >= 2)
    assert watched.thread.is_alive()
    watched.source.stop()
    api.close()
    watched.thread.join(10)
    assert not watched.thread.is_alive()


def test_a_look_finds_what_no_watch_has_told(api: ScriptedApi):
    source = NamespaceSource(anonymous(api.url), (lambda: None, Diary()))
    api.put(PATH, namespace("one", team="a"))
    source.need(needed=True)
    source.look()
    assert source.known() == {"one": {"team": "a"}}
    assert [len(api.list_requests), len(api.watch_requests)] == [1, 0]


def test_a_namespace_with_too_many_labels_is_named(api: ScriptedApi, watched: Watched):
    api.put(PATH, namespace("one", **{f"l{number}": "" for number in range(MAX_LABELS + 1)}))
    watched.source.need(needed=True)
    watched.until_known({"one": None})
    said = f"namespaces: one has more than {MAX_LABELS} labels, so that no namespaceSelector matches it"
    until("it is said", lambda: watched.source.problems == (said,))


@pytest.mark.parametrize("before", [[], [True], [True, False]], ids=["never needed", "needed", "needed no more"])
def test_its_thread_ends_when_it_is_told_to(api: ScriptedApi, before: list[bool]):
    api.put(PATH, namespace("one"))
    watched = Watched(api)
    for needed in before:
        watched.source.need(needed=needed)
        until("it is watched", partial(_is_watched, api))
    watched.source.stop()
    watched.source.need(needed=True)
    api.close()
    watched.thread.join(10)
    assert not watched.thread.is_alive()


def _is_watched(api: ScriptedApi) -> bool:
    return bool(api.watch_requests)


def test_needs_that_change_all_the_time_end_in_what_was_said_last(api: ScriptedApi, watched: Watched):
    def change() -> None:
        for number in range(200):
            api.put(PATH, namespace("one", number=str(number)))

    changing = threading.Thread(target=change)
    changing.start()
    for number in range(2000):
        watched.source.need(needed=number % 2 == 0)
    changing.join()
    watched.source.need(needed=True)
    api.put(PATH, namespace("one", team="b"))
    watched.until_known({"one": {"team": "b"}})
    watched.until_watching()
    watched.source.need(needed=False)
    api.put(PATH, namespace("one", team="c"))
    until("it is given up", lambda: watched.source.known() is None)
