"""Whole cycles on a real disk, with an nginx that takes no file that leads to a certain address or port."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from rayproxy.kinds.backend import Policy
from rayproxy.ledger.file import FileStore
from rayproxy.ledger.ledger import Ledger
from rayproxy.model import Pending, Rejection, Route, Snapshot
from rayproxy.name_policy import NamePolicy
from rayproxy.nginx import linking
from rayproxy.nginx.process import ConfigRefusedError, DrainingError
from rayproxy.nginx.render import revision_conf
from rayproxy.nginx.revisions import Revisions
from rayproxy.nginx.templates import LocationTemplate, check_location, load_location
from rayproxy.reconcile.damping import FREE
from rayproxy.reconcile.reconciler import Config, Outcome, Reconciler
from rayproxy.report import status
from rayproxy.report.events import Event
from rayproxy.report.metrics import Metrics
from rayproxy.report.reporter import Reporter
from rayproxy.report.status import Status
from rayproxy.settings import NginxSettings
from tests.support import kserve, routes
from tests.support.manifests import OLD, YOUNG, rayservice, service, snapshot
from tests.support.routes import CONF

REFUSED = "10.9.9.9"
REFUSED_PORT = 6666
ONE_ROUTE_ALONE = 7777  # a port that one route may have
KEPT = "; its last good version goes on being served"


@dataclass
class Source:
    now: Snapshot = field(default_factory=Snapshot)

    def snapshot(self) -> Snapshot:
        return self.now

    confirm = snapshot


@dataclass
class Nginx:
    revision: str = ""
    drains: int = 0
    streams: bool = False  # so that workers which a reload replaces drain

    def test(self, conf: Path) -> None:
        taken = False
        for path in sorted(conf.parent.glob("ray-*.conf")):
            text = path.read_text()
            if REFUSED in text or f":{REFUSED_PORT}" in text or (taken and f":{ONE_ROUTE_ALONE}" in text):
                raise ConfigRefusedError(f"it is refused in {path}:1")
            taken |= f":{ONE_ROUTE_ALONE}" in text

    def draining(self) -> int:
        return self.drains

    def served(self) -> str:
        return self.revision

    def reload(self, revision: str) -> None:
        self.revision = revision
        self.drains += NginxSettings().workers if self.streams else 0


@dataclass
class Cycle:
    """Hold a reconciler and the folder that it writes."""

    source: Source
    nginx: Nginx
    reconciler: Reconciler
    outcome: Outcome = field(init=False)

    def live(self, now: Snapshot, *, resync: bool = False) -> dict[str, str]:
        """Run a cycle on these objects; return the live files."""
        self.source.now = now
        self.outcome = self.reconciler.run_once(resync=resync)
        return {path.name: path.read_text() for path in (self.reconciler.revisions.root / "current").iterdir()}


@pytest.fixture
def cycle(tmp_path: Path) -> Cycle:
    conf = replace(CONF, settings=NginxSettings(trusted_pages=("chat",)))
    revisions = Revisions(tmp_path, lambda name: revision_conf(name, "/run"))
    ledger = Ledger(FileStore(tmp_path), 0, lambda: None)
    ledger.look()
    source: Any = Source()
    nginx: Any = Nginx()
    policy, grants = Policy(gateways=routes.GATEWAYS), NamePolicy(None, 0)
    config = Config(policy, conf, lambda: (load_location("prefix"), ()), grants, source.confirm)
    return Cycle(source, nginx, Reconciler(source, ledger, revisions, nginx, config))


def at(address: str, *more: str, port: int = 8000) -> Snapshot:
    """Return a cluster in which `chat` is at this address and port, and others are."""
    rays = {name: rayservice(name) for name in ("chat", *more)}
    where = {"chat": at_port(address, port)}
    services = [service(ray, **where.get(name, at_port("10.0.0.2"))) for name, ray in rays.items()]
    return snapshot(*rays.values(), *services)


def at_port(address: str, port: int = 8000) -> dict[str, Any]:
    return {"clusterIP": address, "ports": [{"name": "serve", "port": port}]}


def test_a_route_that_keeps_its_last_good_version_keeps_its_trust_and_is_not_told_as_without_a_route(cycle: Cycle):
    cycle.live(at("10.0.0.1"))
    files = cycle.live(at("10.0.0.1", port=REFUSED_PORT))
    assert "10.0.0.1:8000" in files["ray-chat.conf"]
    assert '"/apis/rayservice/chat@10.0.0.1:8000" yes;' in files["trusted.conf"]
    assert "/chat" not in files["unrouted.conf"]


def failing(condition: str) -> LocationTemplate:
    """Return a location template that has no text where this is so."""
    return check_location("odd", load_location("prefix").text + f"{{% if {condition} and Port > 'x' %}}{{% endif %}}")


def goes(cycle: Cycle, now: Snapshot, file: str = "ray-chat.conf") -> Rejection:
    """Assert that a route whose new version is refused goes with all that was known of it; return what is told."""
    for resync in (False, False, True):
        files = cycle.live(now, resync=resync)
        assert file not in files
        assert file not in files["routes.json"]
        assert "/chat@" not in files["trusted.conf"]
        assert "/chat rejected;" in files["unrouted.conf"]
    (told,) = [each for each in cycle.outcome.decisions if each.ref.name == "chat"]
    assert isinstance(told, Rejection)
    assert KEPT not in told.message
    return told


@pytest.mark.fault(164)
def test_the_last_good_version_of_a_deleted_object_is_not_that_of_another_namespaces_which_has_its_name(cycle: Cycle):
    gone, new = rayservice("chat", "team-a"), rayservice("chat", "team-b")
    cycle.live(snapshot(gone, service(gone, **at_port("10.0.0.1"))))
    told = goes(cycle, snapshot(new, service(new, **at_port("10.0.0.1", REFUSED_PORT))))
    assert (told.ref.namespace, told.reason) == ("team-b", "RefusedByNginx")


@pytest.mark.fault(164)
def test_nor_is_it_where_the_template_has_no_text_for_the_other_one(cycle: Cycle):
    gone, new = rayservice("chat", "team-a"), rayservice("chat", "team-b")
    cycle.live(snapshot(gone, service(gone, **at_port("10.0.0.1"))))
    odd = failing("Namespace == 'team-b'")
    cycle.reconciler.config = replace(cycle.reconciler.config, template=lambda: (odd, ()))
    told = goes(cycle, snapshot(new, service(new, **at_port("10.0.0.1"))))
    assert (told.ref.namespace, told.reason) == ("team-b", "RefusedByTemplate")


@pytest.mark.fault(164)
@pytest.mark.parametrize("whose", ["other", ""], ids=["another's", "nobody's"])
def test_a_last_good_version_does_not_stay_at_an_address_that_is_no_more_its_own(cycle: Cycle, whose: str):
    cycle.live(at("10.0.0.1"))
    ray, other = rayservice(), rayservice("other")
    others = [other, service(other, **at_port("10.0.0.1"))] if whose else []
    assert goes(cycle, snapshot(ray, service(ray, **at_port(REFUSED)), *others)).reason == "RefusedByNginx"
    files = cycle.live(snapshot(ray, service(ray, **at_port("10.0.0.3")), *others))
    assert "10.0.0.3" in files["ray-chat.conf"]
    assert ("ray-other.conf" in files) == bool(whose)


@pytest.mark.fault(164)
def test_what_may_not_stay_is_in_the_way_of_no_other_change(cycle: Cycle):
    cycle.live(at("10.0.0.1", port=ONE_ROUTE_ALONE))
    ray, new = rayservice(), rayservice("new", creationTimestamp=YOUNG)
    new_one = [new, service(new, **at_port("10.0.0.4", ONE_ROUTE_ALONE))]
    files = cycle.live(snapshot(ray, service(ray, **at_port(REFUSED)), *new_one))
    assert {name for name in files if name.startswith("ray-")} == {"ray-new.conf"}


@pytest.mark.fault(164)
def test_a_live_route_of_which_it_is_not_known_whose_it_is_stays_where_it_leads_to_the_same_address(cycle: Cycle):
    cycle.live(at("10.0.0.1"))
    (cycle.reconciler.revisions.root / "current/routes.json").write_text("of an earlier build, or spoiled")
    assert "10.0.0.1:8000" in cycle.live(at("10.0.0.1", port=REFUSED_PORT))["ray-chat.conf"]
    (cycle.reconciler.revisions.root / "current/routes.json").write_text("and once more")
    goes(cycle, at(REFUSED))


@pytest.mark.fault(164)
@pytest.mark.parametrize("host", ["10.0.0.80", "10.0.0.81"], ids=["stays", "has gone elsewhere"])
def test_a_route_to_a_gateway_keeps_its_last_good_version_while_that_is_where_it_was(cycle: Cycle, host: str):
    model = kserve.inferenceservice("chat", status=kserve.addressed())
    objects = [model, kserve.placeholder(model)]
    before = cycle.live(routes.snapshot([*objects, kserve.gateway()]))
    assert "10.0.0.80" in before["isvc-chat.conf"]
    odd = failing("Name == 'chat'")
    cycle.reconciler.config = replace(cycle.reconciler.config, template=lambda: (odd, ()))
    gateway = kserve.gateway()
    gateway["spec"]["clusterIP"] = host
    now = routes.snapshot([*objects, gateway])
    if host == "10.0.0.81":
        goes(cycle, now, "isvc-chat.conf")
    else:
        assert cycle.live(now)["isvc-chat.conf"] == before["isvc-chat.conf"]
        (told,) = cycle.outcome.decisions
        assert isinstance(told, Rejection)
        assert told.message.endswith(KEPT)


@pytest.mark.fault(164)
def test_an_upgrade_in_steps_whose_first_is_refused_keeps_the_version_before_it(cycle: Cycle):
    def upgrade(*clusters: str) -> Snapshot:
        states = ("activeServiceStatus", "pendingServiceStatus")
        ray = rayservice(
            spec={"upgradeStrategy": {"type": "NewClusterWithIncrementalUpgrade"}},
            status={state: {"rayClusterName": name} for state, name in zip(states, clusters, strict=False)},
        )
        hosts = {"chat-a": at_port("10.0.0.1"), "chat-b": at_port(REFUSED)}
        made = [
            service(ray, f"{name}-serve-svc", selector={"ray.io/cluster": name}, **hosts[name]) for name in clusters
        ]
        return snapshot(ray, *made)

    before = cycle.live(upgrade("chat-a"))
    assert cycle.live(upgrade("chat-a", "chat-b"))["ray-chat.conf"] == before["ray-chat.conf"]
    (told,) = cycle.outcome.decisions
    assert isinstance(told, Rejection)
    assert told.message.endswith(KEPT)
    goes(cycle, upgrade("chat-b"))


def test_a_route_that_was_never_good_is_told_as_rejected(cycle: Cycle):
    files = cycle.live(at(REFUSED, "other"))
    assert "ray-chat.conf" not in files
    assert "yes;" not in files["trusted.conf"]
    assert "/chat rejected;" in files["unrouted.conf"]


def test_a_route_that_is_held_while_its_objects_are_unknown_keeps_its_trust(cycle: Cycle):
    known = at("10.0.0.1")
    before = cycle.live(known)
    files = cycle.live(Snapshot({}, frozenset(known.objects)))
    assert files["trusted.conf"] == before["trusted.conf"]
    assert files["ray-chat.conf"] == before["ray-chat.conf"]


@pytest.mark.fault(78)
def test_a_route_whose_object_cannot_be_read_after_a_restart_is_told_as_kept_and_not_as_gone(
    cycle: Cycle, tmp_path: Path
):
    def told(outcome: Outcome) -> tuple[list[str], list[Event], Status]:
        events: list[Event] = []
        registry = CollectorRegistry()
        reporter = Reporter(Metrics(registry), tmp_path / "status.json", events.append, 600.0)  # as after a restart
        with capture_logs() as lines:
            reporter.done(outcome, 0.0, None)
            reporter.done(outcome, 0.0, None)
        assert registry.get_sample_value("rayproxy_routes", {"state": "accepted"}) == 1
        (entry,) = status.read(tmp_path / "status.json").values()
        return [line["event"] for line in lines if line["event"].startswith("route ")], events, entry

    known = at("10.0.0.1")
    cycle.live(known)
    _, _, before = told(cycle.outcome)
    cycle.live(Snapshot({}, frozenset(known.objects)))
    assert cycle.outcome.decisions == ()
    lines, events, entry = told(cycle.outcome)
    assert (lines, events) == (["route kept"], [])
    assert entry == replace(before, message="kept as it was: its object cannot be read at the moment")
    cycle.live(known)
    lines, _, entry = told(cycle.outcome)
    assert (lines, entry) == (["route accepted"], before)


@pytest.mark.fault(78)
def test_what_is_told_of_an_object_whose_route_is_kept_says_so(cycle: Cycle):
    cycle.live(at("10.0.0.1"))
    ray = rayservice()
    cycle.live(replace(snapshot(ray), unknown=frozenset(at("10.0.0.1").objects)))
    (decision,) = cycle.outcome.decisions
    assert isinstance(decision, Pending)
    assert decision.message.endswith(KEPT)
    assert cycle.outcome.kept == ()


@pytest.mark.fault(78)
def test_a_route_to_a_gateway_stays_where_that_may_not_be_read_any_more_and_goes_with_it(cycle: Cycle):
    model = kserve.inferenceservice("chat", status=kserve.addressed())
    objects = [model, kserve.placeholder(model)]
    before = cycle.live(routes.snapshot([*objects, kserve.gateway()]))
    assert "10.0.0.80" in before["isvc-chat.conf"]
    unseen = routes.snapshot(objects)
    files = cycle.live(replace(unseen, unread=frozenset(routes.GATEWAYS[:1])))
    assert files == before
    (decision,) = cycle.reconciler.run_once().decisions
    assert isinstance(decision, Rejection)
    assert decision.message.endswith(KEPT)
    files = cycle.live(replace(unseen, unread=frozenset(routes.GATEWAYS[1:])))
    assert "isvc-chat.conf" not in files
    assert "/apis/inferenceservice/chat rejected;" in files["unrouted.conf"]


def test_a_route_to_an_address_of_its_own_does_not_stay_for_a_gateway_that_may_not_be_read(cycle: Cycle):
    model = kserve.inferenceservice("chat", status=kserve.addressed())
    cycle.live(routes.snapshot([model, kserve.service(model)]))
    now = routes.snapshot([model, kserve.placeholder(model)])
    assert "isvc-chat.conf" not in cycle.live(replace(now, unread=frozenset(routes.GATEWAYS)))


def test_a_large_revision_reads_no_file_again_that_it_found_right(cycle: Cycle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("rayproxy.reconcile.reconciler.LARGE", 1)
    read, original = [], linking._read
    monkeypatch.setattr(linking, "_read", lambda name, folder: read.append(name) or original(name, folder))
    for number in range(8):
        cycle.live(at("10.0.0.1", f"m{number}"))
    assert read.count("ray-chat.conf") == 1
    assert read.count("nginx.conf") == 1


@pytest.mark.fault(106)
@pytest.mark.parametrize("backend", ["10.0.0.99", ""], ids=["has a backend", "has lost its backend"])
def test_a_name_stays_with_its_object_while_a_change_of_that_waits(cycle: Cycle, backend: str):
    mine = rayservice("chat", "mine", creationTimestamp=YOUNG)
    older = rayservice("chat", "older", creationTimestamp=OLD)
    for number in range(FREE + 2):
        files = cycle.live(snapshot(mine, service(mine, clusterIP=f"10.0.0.{number}"), older))
    assert "/chat rejected;" in files["unrouted.conf"], "its last change waits"
    mine_now = [mine, service(mine, clusterIP=backend)] if backend else [mine]
    for _ in range(2):
        files = cycle.live(snapshot(*mine_now, older, service(older, clusterIP="10.1.0.1")))
        assert "ray-chat.conf" not in files


@pytest.mark.fault(112)
def test_nginx_is_not_put_right_by_one_reload_more_than_may_drain(cycle: Cycle):
    cycle.live(at("10.0.0.1"))
    live, cycle.nginx.revision = cycle.nginx.revision, "somebody else's"
    cycle.nginx.drains = cycle.reconciler.config.nginx.settings.max_draining
    with pytest.raises(DrainingError):
        cycle.live(at("10.0.0.1"))
    assert cycle.nginx.revision == "somebody else's"
    cycle.nginx.drains -= 1
    cycle.live(at("10.0.0.1"))
    assert cycle.nginx.revision == live


@pytest.mark.fault(115)
@pytest.mark.parametrize("how", ["made and deleted in turns", "deleted one by one"])
def test_a_namespace_whose_objects_change_in_concert_leaves_room_for_others_changes(cycle: Cycle, how: str):
    def routed(namespace: str, names: list[str]) -> list[dict[str, Any]]:
        rays = [rayservice(name, namespace) for name in names]
        return [obj for ray in rays for obj in (ray, service(ray))]

    names = [f"evil{number}" for number in range(60)]
    good = ["good0"]
    cycle.live(snapshot(*routed("evil", names), *routed("good", good)))
    cycle.nginx.streams = True
    waited: list[str] = []
    for turn in range(1, 60):
        evil = names[turn:] if how == "deleted one by one" else [*names[: turn % 8], *names[8 + turn % 2 :]]
        wanted = snapshot(*routed("evil", evil), *routed("good", good))
        cycle.live(wanted)
        waited += filter(None, [cycle.outcome.waits])
    assert len(waited) > 30
    assert all("changes of evil caused most of the reloads" in words for words in waited)
    good.append("good1")
    files = cycle.live(snapshot(*routed("evil", evil), *routed("good", good)))
    assert "ray-good1.conf" in files
    assert "ray-evil1.conf" not in files or how != "deleted one by one", "what waits goes with it"


@pytest.mark.fault(71)
@pytest.mark.fault(115)
def test_while_changes_wait_what_is_only_said_of_objects_is_told(cycle: Cycle):
    one, other, gone = (rayservice(name) for name in ("one", "other", "gone"))

    def cluster(fault: dict[str, Any], *more: dict[str, Any]) -> Snapshot:
        return snapshot(one, service(one, **fault), other, service(other), *more)

    cycle.live(cluster({"clusterIP": "None"}, gone, service(gone)))
    cycle.nginx.drains = cycle.reconciler.config.nginx.settings.max_draining
    new = rayservice("new")
    files = cycle.live(cluster({"ports": []}, new, service(new)))
    assert {"ray-gone.conf", "ray-other.conf"} <= files.keys()
    assert "RAYPROXY_MAX_DRAINING" in cycle.outcome.waits
    told = {each.ref.name: each for each in cycle.outcome.decisions}
    assert told.keys() == {"one", "other", "gone"}, "what is new is told when it is served"
    assert isinstance(told["one"], Rejection)
    assert told["one"].reason == "NoServePort"
    assert isinstance(told["gone"], Route)


def many(address: str, numbers: range, *more: dict[str, Any], port: int = 8000) -> Snapshot:
    """Return a cluster of RayServices, the younger the higher their number; their address says which it is."""
    found = list(more)
    for number in numbers:
        ray = rayservice(f"m{number:03}", f"team-{number}", creationTimestamp=f"2024-06-01T00:{number:02}:00Z")
        found += [ray, service(ray, **at_port(address.format(number), port))]
    return snapshot(*found)


@pytest.mark.fault(151)
def test_routes_that_collide_in_numbers_stay_as_they_are_and_hold_up_neither_deletions_nor_others(cycle: Cycle):
    before = cycle.live(many("10.0.0.{}", range(40)))
    colliding = many("10.0.0.{}", range(40), port=ONE_ROUTE_ALONE)
    for resync in (False, False, True, True):
        files = cycle.live(colliding, resync=resync)
        assert f":{ONE_ROUTE_ALONE}" in files["ray-m000.conf"]
        assert all(files[f"ray-m{n:03}.conf"] == before[f"ray-m{n:03}.conf"] for n in range(1, 40))
    rejected = [each for each in cycle.outcome.decisions if isinstance(each, Rejection)]
    assert len(rejected) == 39
    assert all(each.message.endswith(KEPT) for each in rejected)
    new = rayservice("new", creationTimestamp=YOUNG)
    files = cycle.live(many("10.0.0.{}", range(39), new, service(new), port=ONE_ROUTE_ALONE))
    assert "ray-new.conf" in files
    assert "ray-m039.conf" not in files
    files = cycle.live(many("10.0.0.{}", range(38), new, service(new), port=ONE_ROUTE_ALONE), resync=True)
    assert "ray-m038.conf" not in files


@pytest.mark.fault(151)
def test_a_good_route_that_the_tests_did_not_reach_has_its_turn_at_a_resync(cycle: Cycle):
    good = rayservice("zz", creationTimestamp=YOUNG)
    now = many("10.0.0.{}", range(60), good, service(good), port=ONE_ROUTE_ALONE)
    assert "ray-zz.conf" not in cycle.live(now), "more collide than there are tests, and all are older"
    served = [cycle.live(now, resync=True).keys() for _ in range(3)]
    assert "ray-zz.conf" in served[-1]
    cycle.live(many("10.0.0.{}", range(60), good, service(good)), resync=True)
    assert {type(each) for each in cycle.outcome.decisions} == {Route}


@pytest.mark.fault(151)
def test_a_deleted_route_goes_though_more_is_refused_than_there_are_tests_for_and_nothing_else_is_live(cycle: Cycle):
    assert "ray-chat.conf" in cycle.live(at("10.0.0.1"))
    files = cycle.live(many(REFUSED, range(59)))
    assert not [name for name in files if name.startswith("ray-")]
    assert "/m058 rejected;" in files["unrouted.conf"]


@pytest.mark.fault(151)
@pytest.mark.parametrize("resync", [False, True], ids=["", "each is a resync"])
def test_where_nothing_is_live_each_cycle_leaves_more_of_the_refused_out_until_a_good_route_is_found(
    cycle: Cycle, resync: bool
):
    good = rayservice("zz", creationTimestamp=YOUNG)
    now = many(REFUSED, range(100), good, service(good))
    for _ in range(3):
        with pytest.raises(ConfigRefusedError, match="this is no single route's fault"):
            cycle.live(now, resync=resync)
    files = cycle.live(now, resync=resync)
    assert "ray-zz.conf" in files
    assert "/m099 rejected;" in files["unrouted.conf"]
    assert "ray-m005.conf" in cycle.live(many("10.0.0.{}", range(100), good, service(good)))


@pytest.mark.fault(152)
def test_a_route_for_which_the_template_cannot_be_rendered_is_rejected_alone_and_keeps_its_live_version(cycle: Cycle):
    before = cycle.live(at("10.0.0.1", "more", "gone"))
    odd = failing("Port == 7")
    cycle.reconciler.config = replace(cycle.reconciler.config, template=lambda: (odd, ()))
    new = [rayservice("new"), service(rayservice("new"), **at_port("10.0.0.7", 7))]
    rays = [rayservice("chat"), rayservice("more")]
    now = snapshot(*rays, service(rays[0], **at_port("10.0.0.1", 7)), service(rays[1], clusterIP="10.0.0.3"), *new)
    for resync in (False, False, True):
        files = cycle.live(now, resync=resync)
        assert files["ray-chat.conf"] == before["ray-chat.conf"]
        assert '"/apis/rayservice/chat@10.0.0.1:8000" yes;' in files["trusted.conf"]
        assert "10.0.0.3" in files["ray-more.conf"], "others go on"
        assert "/new rejected;" in files["unrouted.conf"]
        assert not {"ray-gone.conf", "ray-new.conf"} & files.keys()
    told = {each.ref.name: each for each in cycle.outcome.decisions if isinstance(each, Rejection)}
    assert {each.reason for each in told.values()} == {"RefusedByTemplate"}
    assert all(each.message.startswith("the location template odd fails for {") for each in told.values())
    kept = {name for name, each in told.items() if each.message.endswith(KEPT)}
    assert kept == {"chat"}
    files = cycle.live(at("10.0.0.8", "more"))
    assert "10.0.0.8" in files["ray-chat.conf"]
