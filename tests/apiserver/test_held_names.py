"""Whose a name is, seen by two replicas with no more permissions than deploy/ gives them."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from rayproxy.kinds.claims import Claim
from rayproxy.kube.login import connect_by_kubeconfig
from rayproxy.ledger.base import StoreError
from rayproxy.ledger.configmap import ConfigMapStore
from rayproxy.ledger.entries import Change, Changes
from tests.support import deploy
from tests.support.accounts import Account
from tests.support.apiserver import Cluster, LocalApiServer
from tests.support.cli import rayproxy
from tests.support.daemon import Daemon
from tests.support.kuberay import KubeRay
from tests.support.mounts import needs_mounts
from tests.support.objects import MERGE
from tests.support.waiting import until

CHAT, LATEST = ("rayservice", "chat"), 2_000_000_000


@dataclass
class Tenants:
    """Hold two tenants' namespaces, and the proxy's own."""

    cluster: Cluster
    good: KubeRay
    evil: KubeRay
    home: str

    @property
    def configmaps(self) -> str:
        return f"/api/v1/namespaces/{self.home}/configmaps"

    def held(self) -> dict[str, str]:
        """Return what the ConfigMap holds."""
        return self.cluster.call("GET", f"{self.configmaps}/rayproxy-names").get("data") or {}

    def share(self) -> None:
        """Make the ConfigMap of deploy/, and let the proxy use it as deploy/ does."""
        rendered = deploy.render("deploy")
        made = deploy.one(rendered, "ConfigMap", "rayproxy-names")
        self.cluster.call("POST", self.configmaps, made | {"metadata": {"name": "rayproxy-names"}})
        self.account.allow(self.home, "rayproxy-names", deploy.one(rendered, "Role", "rayproxy-names")["rules"])

    def version(self) -> str:
        """Return the ConfigMap's resourceVersion."""
        return self.cluster.call("GET", f"{self.configmaps}/rayproxy-names")["metadata"]["resourceVersion"]

    @property
    def account(self) -> Account:
        """Return the proxy's service account."""
        return Account(self.cluster, self.home)


@pytest.fixture
def tenants(kuberay: KubeRay) -> Tenants:
    """Return two tenants, and a service account that deploy/ lets read their objects; the ConfigMap is not there."""
    cluster = kuberay.cluster
    made = Tenants(cluster, KubeRay(cluster, cluster.namespace("good"), kuberay.port),
                   KubeRay(cluster, cluster.namespace("evil"), kuberay.port), cluster.namespace("proxy"))  # fmt: skip
    rendered = deploy.render("deploy")
    cluster.call("POST", f"/api/v1/namespaces/{made.home}/serviceaccounts", {"metadata": {"name": "rayproxy"}})
    for tenant in (made.good, made.evil):
        made.account.allow(tenant.namespace, "rayproxy", deploy.one(rendered, "ClusterRole")["rules"])
    return made


@pytest.fixture
def shared(tenants: Tenants) -> Tenants:
    """Return the same with the ConfigMap of deploy/, and the permission for it."""
    tenants.share()
    return tenants


@pytest.fixture
def make_replica(tenants: Tenants) -> Iterator[Callable[..., Daemon]]:
    """Return a function that makes a daemon with folders of its own."""
    with contextlib.ExitStack() as stack:

        def make(**settings: str) -> Daemon:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rp-", ignore_cleanup_errors=True)))
            folder.chmod(0o755)
            given = {
                "KUBECONFIG": str(tenants.cluster.kubeconfig(folder, tenants.account.token())),
                "NAMESPACES": f"{tenants.good.namespace},{tenants.evil.namespace}",
                "NAMES_CONFIGMAP": f"{tenants.home}/rayproxy-names",
                "WORKERS": "1",
                "RESYNC": "2",
            }
            replica = Daemon(folder, given | settings)
            stack.callback(replica.clean_up)
            return replica

        yield make


def cycles(replica: Daemon) -> float:
    return replica.metric("rayproxy_reconcile_duration_seconds_count")


def has_cycled(replica: Daemon, count: float) -> bool:
    return cycles(replica) >= count


def is_kept_from(tenants: Tenants, replica: Daemon, reason: str = "NameHeld") -> None:
    """Wait until the replica keeps the name from the evil one."""

    def look() -> bool:
        row = replica.routes().get(f"{tenants.evil.namespace}/chat", {})
        return (row.get("state"), row.get("reason")) == ("rejected", reason)

    until(f"{reason}; the daemon's log:\n{replica.tail()}", look)
    answer = replica.route("chat")
    assert tenants.good.namespace not in answer.body.decode() + json.dumps(
        replica.routes()[f"{tenants.evil.namespace}/chat"]
    )


def seize(tenants: Tenants, replicas: list[Daemon]) -> None:
    """Play the red team: the younger namesake waits, and then the older one is deleted."""
    tenants.good.routed("chat")
    for replica in replicas:
        replica.start()
        replica.until_state("chat", "accepted", tenants.good.namespace)
    tenants.evil.routed("chat")
    for replica in replicas:
        is_kept_from(tenants, replica, "NameConflict")
    tenants.good.delete_rayservice("chat")
    tenants.good.delete_service("chat-serve-svc")
    for replica in replicas:
        is_kept_from(tenants, replica)
        assert replica.error("chat") == "rayservice_rejected"


@pytest.mark.fault(81)
@pytest.mark.fault(82)
@pytest.mark.fault(83)
def test_a_name_goes_back_to_its_namespace_also_by_a_replica_that_came_meanwhile(
    shared: Tenants, make_replica: Callable[..., Daemon]
):
    first, second = make_replica(), make_replica()
    seize(shared, [first, second])
    until("it is written down", lambda: shared.held().get("rayservice.chat", "").startswith(shared.good.namespace))
    second.stop()
    third = make_replica().start()
    is_kept_from(shared, third)
    shared.good.routed("chat")
    for replica in (first, third):
        replica.until_state("chat", "accepted", shared.good.namespace)
        is_kept_from(shared, replica, "NameConflict")
        assert replica.answers_from("chat", "everywhere")
    until("without an end", lambda: shared.held() == {"rayservice.chat": shared.good.namespace})
    version = shared.version()
    for replica in (first, third):
        until("three more cycles", partial(has_cycled, replica, cycles(replica) + 3))
    assert shared.version() == version, "neither corrects the other"
    told = [event["message"] for event in shared.evil.events("chat")]
    assert told
    assert not [message for message in told if shared.good.namespace in message]


@pytest.mark.fault(81)
def test_a_name_that_is_released_is_free_for_both_replicas(shared: Tenants, make_replica: Callable[..., Daemon]):
    first, second = make_replica(), make_replica()
    seize(shared, [first, second])
    until("it is written down", shared.held)
    listed = rayproxy(second, "routes", "--held").stdout.splitlines()
    assert listed[0].split() == ["KIND", "NAME", "NAMESPACE", "UNTIL"]
    assert listed[1].split()[:3] == ["rayservice", "chat", shared.good.namespace]
    [row] = json.loads(rayproxy(second, "routes", "--held", "-o", "json").stdout)
    assert row["until"] == listed[1].split()[3]
    assert "no namespace holds the name other" in rayproxy(first, "release", "other").stderr
    assert rayproxy(first, "release", "chat", "--kind", "otherkind").returncode == 1
    done = rayproxy(first, "release", "chat")
    assert done.returncode == 0, done.stderr
    assert shared.good.namespace in done.stdout
    for replica in (first, second):
        replica.until_state("chat", "accepted", shared.evil.namespace)
        assert replica.answers_from("chat", "everywhere")
    assert shared.held() == {}


@pytest.mark.fault(82)
def test_what_somebody_spoils_in_the_configmap_is_ignored_in_words(
    shared: Tenants, make_replica: Callable[..., Daemon]
):
    hostile = {"rayservice.chat": "../../etc", "x" * 200: "y", "rayservice.other": "evil 9999-01-01T00:00:00Z"}
    shared.cluster.call("PATCH", f"{shared.configmaps}/rayproxy-names", {"data": hostile}, MERGE)
    replica = make_replica()
    seize(shared, [replica])
    assert "the entry 'rayservice.chat' is ignored" in replica.log.read_text()
    until("it is written anew", lambda: shared.held()["rayservice.chat"].startswith(shared.good.namespace))
    assert shared.held()["x" * 200] == "y", "what is not the daemon's is left alone"


@pytest.mark.fault(82)
def test_without_the_configmap_the_state_folder_holds_names_until_it_is_there(
    tenants: Tenants, make_replica: Callable[..., Daemon]
):
    replica = make_replica()
    seize(tenants, [replica])
    assert "forbidden" in replica.log.read_text()
    assert replica.log.read_text().count("in its state folder") == 1
    replica.stop()
    replica.start()
    is_kept_from(tenants, replica)
    assert tenants.good.namespace in rayproxy(replica, "routes", "--held").stdout
    assert "in its state folder" in rayproxy(replica, "routes", "--held").stderr
    tenants.share()
    until("it has moved", lambda: tenants.held().get("rayservice.chat", "").startswith(tenants.good.namespace))
    until("and is in one place", lambda: json.loads((replica.state / "names.json").read_text()) == {})
    is_kept_from(tenants, replica)


def is_written(store: ConfigMapStore, changes: Changes) -> bool:
    try:
        store.update(changes, LATEST)
    except StoreError:  # others were first each time; the daemon tries again as well
        return False
    return True


@pytest.mark.fault(82)
def test_replicas_that_write_at_once_lose_no_word_and_the_first_one_counts(shared: Tenants, folder: Path):
    api = connect_by_kubeconfig(str(shared.cluster.kubeconfig(folder)), None)
    stores = [ConfigMapStore(api, shared.home, "rayproxy-names") for _ in range(4)]

    def write(number: int) -> None:
        for index in range(5):
            own = {("rayservice", f"n{number}-{index}"): Change(None, Claim(f"team-{number}"))}
            until("written", partial(is_written, stores[number], own | {CHAT: Change(None, Claim(f"team-{number}"))}))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    claims = stores[0].update({}, LATEST).claims
    assert len(claims) == 4 * 5 + 1
    first = claims[CHAT]
    stores[0].update({CHAT: Change(None, Claim("late"))}, LATEST)
    assert stores[0].update({}, LATEST).claims[CHAT] == first


@pytest.mark.fault(82)
def test_a_configmap_that_somebody_deletes_frees_no_name(shared: Tenants, make_replica: Callable[..., Daemon]):
    replica = make_replica()
    seize(shared, [replica])
    until("it is written down", shared.held)
    shared.cluster.call("DELETE", f"{shared.configmaps}/rayproxy-names")
    until("it is told", lambda: "in its state folder" in replica.log.read_text())
    is_kept_from(shared, replica)
    assert "rayservice.chat" in json.loads((replica.state / "names.json").read_text())
    made = deploy.one(deploy.render("deploy"), "ConfigMap", "rayproxy-names")
    shared.cluster.call("POST", shared.configmaps, made | {"metadata": {"name": "rayproxy-names"}})
    until("it has moved back", lambda: shared.held().get("rayservice.chat", "").startswith(shared.good.namespace))
    is_kept_from(shared, replica)


AS_IN_A_POD = """
mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io && ln -s "$1" /run/secrets/kubernetes.io/serviceaccount
shift && exec "$@"
"""


@needs_mounts
def test_in_a_pod_the_configmap_is_in_the_pods_own_namespace(shared: Tenants, make_replica: Callable[..., Daemon]):
    server = shared.cluster
    if not isinstance(server, LocalApiServer):
        pytest.skip("needs the API server's own certificate as a file: set KUBEBUILDER_ASSETS")
    replica = make_replica(NGINX="managed")
    for name in ("KUBECONFIG", "RAYPROXY_NAMES_CONFIGMAP"):
        del replica.environment[name]
    replica.environment |= {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.port)}
    account = replica.folder / "account"
    account.mkdir()
    (account / "token").write_text(shared.account.token())
    (account / "namespace").write_text(shared.home)
    (account / "ca.crt").write_bytes((server.folder / "certs/apiserver.crt").read_bytes())
    replica.before = ("unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", AS_IN_A_POD, "sh", str(account))
    seize(shared, [replica])
    until("it is written down", lambda: shared.held().get("rayservice.chat", "").startswith(shared.good.namespace))
    assert replica.metric("rayproxy_source_problems") == 0


def test_check_proves_that_held_names_can_be_shared(
    tenants: Tenants, make_replica: Callable[..., Daemon], shared: Tenants
):
    replica = make_replica()
    place = f"the ConfigMap {tenants.home}/rayproxy-names for held names"
    shown = rayproxy(replica, "check").stdout
    assert [line for line in shown.splitlines() if place in line] == [
        f"ok    may get {place}", f"ok    may patch {place}", f"ok    {place} is there",
    ]  # fmt: skip
    tenants.cluster.call("DELETE", f"{tenants.configmaps}/rayproxy-names")
    failed = rayproxy(replica, "check")
    assert failed.returncode == 1
    assert f"FAIL  {place} is there: no (" in failed.stdout
