"""What the two resources together say, and when they say nothing yet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from rayproxy.kinds import inferenceservice, resources
from rayproxy.kinds import service as plain
from rayproxy.kinds.base import Kind
from rayproxy.kinds.rayservice import KIND, RAYSERVICES
from rayproxy.kinds.rayservice import SERVICES as SERVICES_READ
from rayproxy.model import Key
from rayproxy.sources.base import NotSyncedError, UnconfirmedError
from rayproxy.sources.kubernetes import ClusterSource
from tests.support.reflecting import FAST, PATH, Diary, anonymous, rayservice
from tests.support.routes import GATEWAYS
from tests.support.scripted import Reply, ScriptedApi, Seen, page, raw, refuse
from tests.support.waiting import stays, until

SERVICES = "/api/v1/services"
KSERVES = "/apis/serving.kserve.io/v1beta1/inferenceservices"
ISTIO = "/api/v1/namespaces/istio-system/services"
BOTH = (KIND, inferenceservice.KIND)


class QuickSource(ClusterSource):
    timing = FAST


@pytest.fixture
def start(api: ScriptedApi) -> Iterator[Callable[..., ClusterSource]]:
    """Return a function that starts a source against the scripted API server."""
    threads: list[threading.Thread] = []
    sources: list[ClusterSource] = []

    def run(*namespaces: str, diary: Diary | None = None, watched: tuple[Kind, ...] = (KIND,)) -> ClusterSource:
        diary = diary or Diary()
        found = resources(watched, gateways=GATEWAYS)
        sources.append(QuickSource(anonymous(api.url), found, "app=prediction", namespaces, (diary.wake, diary)))
        for name, body in sources[-1].threads:
            threads.append(threading.Thread(target=body, name=name, daemon=True))
            threads[-1].start()
        return sources[-1]

    yield run
    for source in sources:
        source.stop()
    api.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def service(name: str) -> dict[str, object]:
    return {
        "metadata": {"name": f"{name}-serve-svc", "namespace": "default", "labels": {"ray.io/serve": name}},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "serve", "port": 8000}]},
    }


def names(source: ClusterSource) -> set[str] | None:
    """Return the names of all RayServices and Services; None while not synced."""
    try:
        snapshot = source.snapshot()
    except NotSyncedError:
        return None
    return {item.key.name for resource in (RAYSERVICES, SERVICES_READ) for item in snapshot.of(resource)}


def until_problems(source: ClusterSource, expected: list[str]) -> None:
    """Wait until these are the problems, told in short: an object is known a moment before all is well."""

    def told() -> list[str]:
        return [problem.partition(";")[0] for problem in source.snapshot().problems]

    until(f"{expected} is told", lambda: told() == expected)


def only(path: str, reply: Reply) -> Callable[[Seen], Reply | None]:
    return lambda seen: reply if seen.path == path else None


@pytest.mark.parametrize("late", [PATH, SERVICES])
@pytest.mark.parametrize(
    "answer", [refuse(500), refuse(403), raw(b"{}"), refuse(429)], ids=["500", "403", "garbled", "429"]
)
def test_nothing_is_known_before_both_resources_had_a_whole_list(
    api: ScriptedApi, start: Callable[..., ClusterSource], late: str, answer: Reply
):
    api.put(PATH, rayservice("a"))
    api.put(SERVICES, service("a"))
    api.always = only(late, answer)
    source = start()
    until("asked twice", lambda: len([seen for seen in api.seen if seen.path == late]) >= 2)
    with pytest.raises(NotSyncedError, match=f"no whole list yet of {late} "):
        source.snapshot()
    api.always = lambda _: None
    until("both are known", lambda: names(source) == {"a", "a-serve-svc"})


def test_what_is_asked_for_is_the_selector_and_the_serve_label(api: ScriptedApi, start: Callable[..., ClusterSource]):
    start()
    until("both watched", lambda: len(api.watch_requests) == 2)
    assert {(seen.path, seen.query["labelSelector"]) for seen in api.seen} == {
        (PATH, "app=prediction"),
        (SERVICES, "ray.io/serve"),
    }


def test_namespaces_are_asked_one_by_one_and_each_once(api: ScriptedApi, start: Callable[..., ClusterSource]):
    source = start("one", "two", "one")
    until("all watched", lambda: len(api.watch_requests) == 4)
    stays("and no more", lambda: len(source.threads) == 4 and len(api.watch_requests) == 4, 0.2)
    assert {seen.path for seen in api.seen} == {
        f"{root}/namespaces/{name}/{kind}"
        for name in ("one", "two")
        for root, kind in (("/apis/ray.io/v1", "rayservices"), ("/api/v1", "services"))
    }


@pytest.mark.fault(15)
def test_a_missing_definition_is_known_to_be_missing_and_said(api: ScriptedApi, start: Callable[..., ClusterSource]):
    api.put(SERVICES, service("a"))
    api.always = only(PATH, raw(b"404 page not found\n", 404))
    source = start()
    until("services are known", lambda: names(source) == {"a-serve-svc"})
    snapshot = source.snapshot()
    assert snapshot.unknown == {RAYSERVICES}
    assert any("crd-absent" in problem for problem in snapshot.problems)
    api.put(PATH, rayservice("a"))
    api.always = lambda _: None
    until("known", lambda: not source.snapshot().unknown)
    assert names(source) == {"a", "a-serve-svc"}
    until_problems(source, [])


@pytest.mark.fault(16)
def test_services_that_are_not_found_are_not_taken_for_none(api: ScriptedApi, start: Callable[..., ClusterSource]):
    """A load balancer that answers 404 for everything speaks for no API server: Services always exist."""
    api.always = lambda _: raw(b"404 page not found\n", 404)
    diary = Diary()
    source = start(diary=diary)
    until("asked and asked again", lambda: diary.reasons.count("not_found") >= 4)
    assert names(source) is None
    with pytest.raises(UnconfirmedError):
        source.confirm()


def test_what_is_known_stays_known_whatever_comes_afterwards(api: ScriptedApi, start: Callable[..., ClusterSource]):
    api.put(PATH, rayservice("a"))
    api.put(SERVICES, service("a"))
    diary = Diary()
    source = start(diary=diary)
    until("known", lambda: names(source) == {"a", "a-serve-svc"})
    for answer in (refuse(500), refuse(403), refuse(404), raw(b"x")):
        failed = len(diary.failures)
        api.always = lambda _, answer=answer: answer
        api.cut()
        until("failed twice more", lambda failed=failed: len(diary.failures) >= failed + 2, 60)
        assert names(source) == {"a", "a-serve-svc"}


@pytest.mark.fault(19)
def test_confirming_lists_again_and_the_watch_takes_over_what_is_found(
    api: ScriptedApi, start: Callable[..., ClusterSource]
):
    api.put(PATH, rayservice("a"))
    api.put(SERVICES, service("a"))
    api.lists.extend([page([], api.version), page([], api.version)])  # a 200 that is wrong, once for each
    source = start()
    until("wrongly empty", lambda: names(source) == set())
    confirmed = source.confirm()
    assert [item.key.name for item in confirmed.of(RAYSERVICES)] == ["a"]
    assert [item.key.name for item in confirmed.of(SERVICES_READ)] == ["a-serve-svc"]
    assert names(source) == {"a", "a-serve-svc"}


@pytest.mark.fault(19)
@pytest.mark.parametrize("path", [PATH, SERVICES])
def test_what_cannot_be_listed_cannot_be_confirmed(api: ScriptedApi, start: Callable[..., ClusterSource], path: str):
    source = start()
    until("synced", lambda: names(source) == set())
    api.always = only(path, refuse(503, "not now"))
    with pytest.raises(UnconfirmedError, match="not now"):
        source.confirm()


def test_the_gateways_are_asked_for_by_name_whatever_namespaces_are_watched(
    api: ScriptedApi, start: Callable[..., ClusterSource]
):
    start("one", watched=(inferenceservice.KIND,))
    until("all watched", lambda: len(api.watch_requests) == 4)
    assert {(seen.path, seen.query["fieldSelector"]) for seen in api.seen if "fieldSelector" in seen.query} == {
        (ISTIO, "metadata.name=knative-local-gateway"),
        ("/api/v1/namespaces/kourier-system/services", "metadata.name=kourier-internal"),
    }


@pytest.mark.fault(78)
@pytest.mark.parametrize(("missing", "other"), [(KSERVES, PATH), (PATH, KSERVES)])
def test_one_kind_that_is_not_installed_is_no_problem_and_holds_the_other_not_back(
    api: ScriptedApi, start: Callable[..., ClusterSource], missing: str, other: str
):
    api.put(other, rayservice("a"))
    api.always = only(missing, raw(b"404 page not found\n", 404))
    source = start(watched=BOTH)
    until("known", lambda: kinds_known(source) == {other: {"a"}, missing: set()})
    until_problems(source, [])
    assert [resource.path(None) for resource in source.snapshot().unknown] == [missing]
    assert not source.confirm().problems
    api.put(missing, rayservice("b"))
    api.always = lambda _: None
    until("installed", lambda: kinds_known(source) == {other: {"a"}, missing: {"b"}})
    api.always = only(missing, raw(b"404 page not found\n", 404))
    api.cut()
    until("taken away is another thing", lambda: "crd-absent" in " ".join(source.snapshot().problems))
    assert kinds_known(source) == {other: {"a"}, missing: {"b"}}


@pytest.mark.fault(78)
@pytest.mark.parametrize("answer", [raw(b"404 page not found\n", 404), refuse(403)], ids=["missing", "forbidden"])
def test_what_another_kind_lacks_holds_nothing_back_either_while_the_api_server_fails(
    api: ScriptedApi, start: Callable[..., ClusterSource], answer: Reply
):
    """The API server that is back would else be waited for until that kind's turn, up to 30 s later."""
    api.put(PATH, rayservice("a"))
    api.always = only(KSERVES, answer)
    diary = Diary()
    source = start(diary=diary, watched=BOTH)
    until("known", lambda: kinds_known(source) == {PATH: {"a"}, KSERVES: set()})
    api.always = lambda _: refuse(503)
    api.cut()
    for path in (PATH, KSERVES):
        until(f"{path} failed twice", lambda path=path: len([1 for each in diary.failures if is_503(each, path)]) >= 2)
    assert kinds_known(source) == {PATH: {"a"}, KSERVES: set()}
    assert KSERVES in [resource.path(None) for resource in source.snapshot().unknown]


@pytest.mark.fault(78)
@pytest.mark.parametrize(("forbidden", "problems"), [(KSERVES, [f"{KSERVES}: forbidden"]), (ISTIO, [])])
def test_what_an_older_role_does_not_allow_holds_nothing_else_back(
    api: ScriptedApi, start: Callable[..., ClusterSource], forbidden: str, problems: list[str]
):
    api.put(PATH, rayservice("a"))
    api.always = only(forbidden, refuse(403))
    source = start(watched=BOTH)
    until("known", lambda: kinds_known(source) == {PATH: {"a"}, KSERVES: set()})
    until_problems(source, problems)
    assert source.confirm().of(RAYSERVICES)
    unread = {Key("istio-system", "knative-local-gateway")} if forbidden == ISTIO else set()
    assert source.snapshot().unread == source.confirm().unread == unread


@pytest.mark.fault(78)
@pytest.mark.parametrize(
    ("answer", "problems"),
    [(raw(b"404 page not found\n", 404), []), (refuse(403), [f"{PATH}: forbidden"])],
    ids=["missing", "forbidden"],
)
def test_plain_services_are_routed_where_rayservices_cannot_be(
    api: ScriptedApi, start: Callable[..., ClusterSource], answer: Reply, problems: list[str]
):
    api.put(SERVICES, service("a"))
    api.always = only(PATH, answer)
    source = start(watched=(KIND, plain.KIND))
    until("known", lambda: names(source) == {"a-serve-svc"})
    until_problems(source, problems)
    assert source.confirm().of(plain.SERVICES)


@pytest.mark.fault(78)
def test_where_no_kind_may_be_listed_nothing_is_known(api: ScriptedApi, start: Callable[..., ClusterSource]):
    api.always = lambda seen: refuse(403) if seen.path in (PATH, KSERVES) else None
    source = start(watched=BOTH)
    until("asked twice", lambda: len([seen for seen in api.seen if seen.path == KSERVES]) >= 2)
    assert kinds_known(source) is None
    with pytest.raises(UnconfirmedError):
        source.confirm()


def is_503(failure: tuple[str, str], path: str) -> bool:
    reason, message = failure
    return reason == "server_error" and f"{path} " in message.replace(":", " ")


def kinds_known(source: ClusterSource) -> dict[str, set[str]] | None:
    """Return the names of the routed objects by where they are listed; None while not synced."""
    try:
        snapshot = source.snapshot()
    except NotSyncedError:
        return None
    return {kind.routed.path(None): {each.key.name for each in snapshot.of(kind.routed)} for kind in BOTH}
