"""Whose a name is, with a folder of manifests and a real nginx."""

from __future__ import annotations

import json
import signal

import pytest

from tests.integration.conftest import Start
from tests.support.cli import rayproxy
from tests.support.daemon import Daemon
from tests.support.manifests import OLD, YOUNG, Manifests, rayservice


@pytest.mark.fault(80)
def test_an_older_namesake_without_a_backend_costs_a_route_nothing(daemon: Daemon, manifests: Manifests):
    manifests.routed("chat", "good", creationTimestamp=YOUNG)
    daemon.start()
    daemon.until_state("chat", "accepted", "good")
    manifests.write("evil.chat", rayservice("chat", "evil", creationTimestamp=OLD))
    assert daemon.until_state("chat", "rejected", "evil")["reason"] == "NameConflict"
    assert daemon.error("chat") == ""
    manifests.routed("chat", "evil", creationTimestamp=OLD)
    manifests.routed("later")
    daemon.until_state("later", "accepted")
    assert daemon.routes()["good/chat"]["state"] == "accepted"


@pytest.mark.fault(80)
def test_a_held_name_is_nobody_elses_while_its_file_cannot_be_read(daemon: Daemon, manifests: Manifests):
    manifests.routed("chat", "good", creationTimestamp=YOUNG)
    daemon.start()
    daemon.until_state("chat", "accepted", "good")
    daemon.stop()
    (manifests.folder / "good.chat.yaml").write_text("{")
    manifests.routed("chat", "evil", creationTimestamp=OLD)
    daemon.start()
    assert daemon.until_state("chat", "rejected", "evil")["reason"] == "NameConflict"
    assert daemon.error("chat") == ""


@pytest.mark.fault(81)
@pytest.mark.fault(82)
def test_a_kept_name_is_kept_through_a_kill_until_it_is_released(daemon: Daemon, manifests: Manifests):
    manifests.routed("chat", "good")
    daemon.start()
    manifests.routed("chat", "evil", creationTimestamp=YOUNG)
    daemon.until_state("chat", "rejected", "evil")
    manifests.remove("chat", "good")
    daemon.until_gone("chat", "good")
    assert daemon.routes()["evil/chat"]["reason"] == "NameHeld"
    daemon.stop(signal.SIGKILL)
    daemon.start()
    assert daemon.routes()["evil/chat"]["reason"] == "NameHeld"
    assert json.loads(rayproxy(daemon, "routes", "--held", "-o", "json").stdout)[0]["namespace"] == "good"
    assert "ray-chat.conf" not in rayproxy(daemon, "render").stdout
    assert rayproxy(daemon, "release", "chat").returncode == 0
    daemon.until_state("chat", "accepted", "evil")
    assert daemon.error("chat") == ""


@pytest.mark.fault(81)
def test_a_kept_name_is_free_when_its_time_is_over(new_daemon: Start, manifests: Manifests):
    daemon = new_daemon(WORKERS="1", NAME_HOLD="2", RESYNC="1")
    manifests.routed("chat", "good")
    daemon.start()
    manifests.routed("chat", "evil", creationTimestamp=YOUNG)
    daemon.until_state("chat", "rejected", "evil")
    manifests.remove("chat", "good")
    daemon.until_gone("chat", "good")
    assert daemon.routes()["evil/chat"]["reason"] == "NameHeld"
    daemon.until_state("chat", "accepted", "evil")


@pytest.mark.fault(84)
def test_names_are_granted_by_a_file_that_is_read_while_the_daemon_runs(new_daemon: Start, manifests: Manifests):
    policy = manifests.folder.parent / "p" / "policy.yaml"
    policy.parent.mkdir()
    daemon = new_daemon(WORKERS="1", NAME_POLICY=str(policy), MAX_ROUTES_PER_NAMESPACE="2")
    missing = rayproxy(daemon, "run")
    assert missing.returncode == 1
    assert f"the name policy {policy} cannot be read" in missing.stderr
    policy.write_text("- {namespaces: [good], names: [chat]}\n- {namespaces: ['*'], names: ['test-*']}\n")
    for name, namespace in (("chat", "evil"), ("test-1", "evil"), ("test-2", "evil"), ("test-3", "evil")):
        manifests.routed(name, namespace, creationTimestamp=YOUNG if name == "test-3" else OLD)
    daemon.start()
    assert daemon.routes()["evil/chat"]["reason"] == "NameNotGranted"
    assert daemon.routes()["evil/test-3"]["reason"] == "TooManyRoutes"
    assert daemon.error("test-2") == ""
    assert f"ok    name policy {policy}" in rayproxy(daemon, "check").stdout
    policy.write_text("- {namespaces: [good], names: [")
    daemon._until("the fault is told", lambda: "the last good one is used" in daemon.log.read_text())
    assert "FAIL  name policy" in rayproxy(daemon, "check").stdout
    policy.write_text("- {namespaces: [evil], names: [chat]}\n")
    daemon.until_state("chat", "accepted", "evil")
    assert daemon.routes()["evil/test-1"]["reason"] == "NameNotGranted"
