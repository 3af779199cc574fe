"""The Gateway API's words for KubeRay's upgrades in steps, said to a real API server; KubeRay's part is played."""

from __future__ import annotations

import copy
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import gatewayapi, played
from tests.support.daemon import Daemon
from tests.support.gatewayapi import CONTROLLER, MANAGER, Steps
from tests.support.kuberay import KubeRay
from tests.support.objects import MERGE
from tests.support.waiting import stays, until

APPLY = "application/apply-patch+yaml"
RECORDED = Path(__file__).parents[1] / "recorded" / "incremental"
ALL_WELL = {
    "Accepted": "True Accepted", "Programmed": "True Programmed", "accepted": "True Accepted",
    "ResolvedRefs": "True ResolvedRefs",
}  # fmt: skip


@pytest.fixture
def steps(kuberay: KubeRay) -> Steps:
    """Return an upgrade that has not begun: nothing of it is there."""
    gatewayapi.install(kuberay.cluster)
    return Steps(kuberay)


@pytest.fixture
def speaking(daemon: Daemon) -> Daemon:
    """Return a daemon that speaks for the class, started."""
    daemon.environment["RAYPROXY_GATEWAY_CLASS"] = "rayproxy"
    return daemon.start()


def until_said(steps: Steps, **states: str) -> dict[str, dict[str, Any]]:
    """Wait until these are said, and return all that is."""
    try:
        until(f"{states} is said", lambda: steps.states().items() >= states.items())
    except AssertionError as error:
        raise AssertionError(f"{error}, but {steps.said()}") from None
    return steps.said()


@pytest.mark.slow
@pytest.mark.fault(120)
def test_what_kuberay_waits_for_is_said_before_each_step_that_was_recorded_and_no_call_fails(
    speaking: Daemon, steps: Steps
):
    replay, lines = played.Replay(steps.kuberay), [
        line for name in ("1.6.2", "1.6.2-gateway") for line in played.lines(RECORDED / f"{name}.jsonl")
    ]  # fmt: skip
    calls, waits = 0, []
    for line in sorted(lines, key=lambda line: line["t"]):
        replay.do(_here(line, steps.kuberay))
        if line["t"] < 5.142:  # the HTTPRoute is made
            continue
        begun = time.monotonic()
        until("KubeRay may go on", steps.goes_on)
        waits.append(time.monotonic() - begun)
        assert speaking.route("inc").status == 200
        calls += 1
    assert max(waits) < 10
    print(f"{calls} calls; longest wait {max(waits):.1f} s")


def _here(line: dict[str, Any], kuberay: KubeRay) -> dict[str, Any]:
    """Return a recorded line as it would be in this namespace, with the port of its upstream."""
    text = json.dumps(line).replace('"namespace": "default"', f'"namespace": "{kuberay.namespace}"')
    made: dict[str, Any] = json.loads(text.replace('"port": 8000', f'"port": {kuberay.port}'))
    return made


@pytest.mark.fault(120)
def test_an_upgrade_waits_until_the_new_clusters_service_can_be_used(speaking: Daemon, steps: Steps):
    steps.start()
    until_said(steps, **ALL_WELL)
    steps.begin()
    said = until_said(steps, ResolvedRefs="False BackendNotFound", Programmed="True Programmed")
    assert "inc-2-serve-svc is not, or not yet, a Service that the route leads to" in said["ResolvedRefs"]["message"]
    assert not steps.goes_on()
    steps.service("inc-2")
    said = until_said(steps, **ALL_WELL)
    assert said["ResolvedRefs"]["observedGeneration"] == steps.live("httproutes")["metadata"]["generation"] == 2
    backends = speaking.routes()[f"{steps.kuberay.namespace}/inc"]["backend"]
    assert "(0 %)" in backends, "nginx has proven a configuration with both"


@pytest.mark.fault(122)
def test_what_is_not_kuberays_is_refused_in_words_and_taken_when_it_is_mended(speaking: Daemon, steps: Steps):
    steps.start()
    until_said(steps, **ALL_WELL)
    steps.change("httproutes", {"spec": {"hostnames": ["chat.example"]}})
    said = until_said(steps, accepted="False UnsupportedValue", Accepted="True Accepted")
    assert said["accepted"]["message"].startswith("spec.hostnames is set")
    steps.change("httproutes", {"spec": {"hostnames": None}})
    until_said(steps, **ALL_WELL)
    listener = steps.live("gateways")["spec"]["listeners"][0]
    steps.change("gateways", {"spec": {"listeners": [listener | {"port": 8080}]}})
    said = until_said(steps, Accepted="False ListenersNotValid", Programmed="False Invalid", accepted="False Pending")
    assert said["Accepted"]["message"].startswith("spec.listeners[0].port is 8080 and not 80")
    assert said["Accepted"]["observedGeneration"] == 2
    assert speaking.route("inc").status == 200, "the route is as it was"


@pytest.mark.fault(122)
def test_a_gateway_is_believed_by_its_controllers_uid(speaking: Daemon, steps: Steps):
    made = steps.start()
    until_said(steps, **ALL_WELL)
    other = copy.deepcopy(made)
    other["metadata"]["uid"] = "11111111-2222-3333-4444-555555555555"
    steps.cluster.call("DELETE", steps.path("gateways"))
    steps.gateway(other)
    until_said(steps, Accepted="False Invalid", accepted="False NotAllowedByListeners")
    steps.cluster.call("DELETE", steps.path("gateways"))
    steps.gateway(None)
    until_said(steps, Accepted="False Invalid")
    assert "controlled by nobody" in steps.said()["Accepted"]["message"]


@pytest.mark.fault(123)
def test_kuberays_updates_keep_what_was_said_and_the_generation_follows(speaking: Daemon, steps: Steps):
    steps.start()
    before = until_said(steps, **ALL_WELL)
    spec = steps.live("gateways")["spec"]
    updated = steps.update("gateways", spec | {"listeners": [{"name": "http2", "port": 80, "protocol": "HTTP"}]})
    assert {each["type"]: each["status"] for each in updated["status"]["conditions"]} == {
        "Accepted": "True", "Programmed": "True",
    }  # fmt: skip
    steps.service("inc-2")
    steps.begin()
    until("the generation is followed", lambda: _generations(steps) == {2})
    after = until_said(steps, **ALL_WELL)
    times = [each["lastTransitionTime"] for name, each in after.items() if name != "ResolvedRefs"]
    assert times == [each["lastTransitionTime"] for name, each in before.items() if name != "ResolvedRefs"]


def _generations(steps: Steps) -> set[int]:
    return {each["observedGeneration"] for each in steps.said().values()}


@pytest.mark.fault(123)
def test_what_another_controller_said_of_an_httproute_stays(speaking: Daemon, steps: Steps):
    steps.start()
    until_said(steps, **ALL_WELL)
    live = steps.live("httproutes")["status"]["parents"]
    word = {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "mine",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}  # fmt: skip
    other = {"parentRef": {"name": "public"}, "controllerName": "example.net/other", "conditions": [word]}
    steps.change("httproutes", {"status": {"parents": [*live, other]}}, status=True)
    steps.begin()
    until_said(steps, ResolvedRefs="False BackendNotFound")
    kept = steps.live("httproutes")["status"]["parents"]
    assert [each["conditions"][0]["message"] for each in kept if each["controllerName"] != CONTROLLER] == ["mine"]
    assert len(kept) == 2


@pytest.mark.fault(123)
def test_words_are_taken_back_when_the_gateway_gets_another_class(speaking: Daemon, steps: Steps):
    steps.start()
    until_said(steps, **ALL_WELL)
    steps.change("gateways", {"spec": {"gatewayClassName": "another"}})
    until("nothing is said", lambda: not any(state.startswith("True") for state in steps.states().values()))
    assert MANAGER not in steps.managers()


@pytest.fixture
def another(speaking: Daemon) -> Iterator[Daemon]:
    """Return a daemon that sees the same namespace and speaks for another class, not started."""
    with tempfile.TemporaryDirectory(prefix="rp-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        made = Daemon(Path(folder), speaking.settings | {"GATEWAY_CLASS": "staging"})
        yield made
        made.clean_up()


@pytest.mark.fault(146)
def test_proxies_of_two_classes_speak_each_for_its_own_and_then_no_more(
    speaking: Daemon, another: Daemon, steps: Steps
):
    staging = Steps(steps.kuberay, "chat", "staging")
    another.start()
    for each in (steps, staging):
        each.start(f"{each.name}-1")
        until_said(each, **ALL_WELL)
    before = [each.versions() for each in (steps, staging)]
    stays("nothing is written anew", lambda: [each.versions() for each in (steps, staging)] == before, 5)
    steps.change("gateways", {"spec": {"gatewayClassName": "staging"}})
    until("the other one speaks", lambda: steps.managers() == {"rayproxy-staging": "Apply"} and steps.goes_on())
    assert steps.said()["Programmed"]["observedGeneration"] == 2


@pytest.mark.fault(146)
def test_words_of_an_earlier_builds_name_are_taken_over_and_then_taken_back_with_ones_own(
    speaking: Daemon, steps: Steps
):
    steps.start()
    until_said(steps, **ALL_WELL)
    speaking.stop()
    said = steps.live("gateways")["status"]["conditions"]
    apply(steps, "rayproxy", said)
    apply(steps, MANAGER, [])
    assert steps.managers() == {"rayproxy": "Apply"}
    assert steps.goes_on()
    _, httproute = steps.versions()
    speaking.start()
    until("the words are taken over", lambda: steps.managers() == {MANAGER: "Apply"})
    assert steps.goes_on()
    assert steps.versions()[1] == httproute, "what is said of the HTTPRoute stood all the time"
    speaking.stop()
    apply(steps, "rayproxy", [each | {"message": "of an earlier build"} for each in said])
    steps.change("gateways", {"spec": {"gatewayClassName": "another"}})
    speaking.start()
    until("nothing is said", lambda: steps.managers() == {} and not steps.goes_on())
    assert "not said" not in speaking.told()


def apply(steps: Steps, manager: str, said: list[dict[str, str]]) -> None:
    """Say that of the Gateway in a manager's name, or take all that it said back."""
    live = steps.live("gateways")
    body = {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": {"name": live["metadata"]["name"]}}
    query = f"fieldManager={manager}&force=true"
    words = {"status": {"conditions": said}} if said else {}
    steps.cluster.call("PATCH", f"{steps.path('gateways')}/status?{query}", body | words, APPLY)


def test_the_class_is_accepted_and_that_of_another_controller_left_alone(
    make_daemon: Callable[..., Daemon], steps: Steps, folder: Path
):
    steps.name = "of-all-namespaces"  # in which others' tests have theirs
    path = gatewayapi.make_class(steps.cluster, "rayproxy")
    config = str(steps.cluster.kubeconfig(folder))
    daemon = make_daemon(KUBECONFIG=config, GATEWAY_CLASS="rayproxy").start()
    until("the class is accepted", lambda: _accepted(steps, path) == ("True", "Accepted"))
    steps.start()
    until_said(steps, **ALL_WELL)
    daemon.stop()
    daemon.environment["RAYPROXY_GATEWAY_CLASS"] = "theirs"
    steps.cluster.call("DELETE", path)
    theirs = gatewayapi.make_class(steps.cluster, "theirs", "example.net/other")
    steps.change("gateways", {"spec": {"gatewayClassName": "theirs"}})
    daemon.start()
    until("what was said is taken back", lambda: not any(each.startswith("True") for each in steps.states().values()))
    stays("the class is left alone", lambda: _accepted(steps, theirs) != ("True", "Accepted"))


def _accepted(steps: Steps, path: str) -> tuple[str, str]:
    conditions = steps.cluster.call("GET", path).get("status", {}).get("conditions", [])
    return next(((each["status"], each["reason"]) for each in conditions if each["type"] == "Accepted"), ("", ""))


@pytest.mark.fault(120)
def test_without_the_setting_nothing_is_watched_and_nothing_said(daemon: Daemon, steps: Steps):
    daemon.start()
    steps.start()
    daemon.until_state("inc", "accepted", steps.kuberay.namespace)
    stays("nothing is said", lambda: not steps.goes_on(), 3)
    assert "gateway.networking.k8s.io" not in daemon.admin("/metrics")[1]
    assert steps.managers() == {}


def test_what_a_person_patched_into_the_status_is_replaced(speaking: Daemon, steps: Steps):
    steps.start()
    until_said(steps, **ALL_WELL)
    word = {"type": "Programmed", "status": "False", "reason": "Invalid", "message": "by hand",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}  # fmt: skip
    conditions = [each for each in steps.live("gateways")["status"]["conditions"] if each["type"] != "Programmed"]
    steps.cluster.call(
        "PATCH", steps.path("gateways") + "/status", {"status": {"conditions": [*conditions, word]}}, MERGE
    )
    until_said(steps, **ALL_WELL)


@pytest.mark.fault(128)
def test_a_status_without_room_for_words_is_told_once_and_spoken_of_when_it_has_some(speaking: Daemon, steps: Steps):
    steps.start()
    until_said(steps, **ALL_WELL)
    others = [condition(f"Other{number}") for number in range(8)]  # the API takes no more
    steps.change("gateways", {"status": {"conditions": others}}, status=True)
    until("it is told", lambda: "not said" in speaking.told())
    stays("it is told once", lambda: speaking.told().count("not said") == 1, 5)
    steps.change("gateways", {"status": {"conditions": others[:6]}}, status=True)
    until_said(steps, **ALL_WELL)


@pytest.mark.fault(128)
def test_words_that_somebody_wrote_under_the_proxys_name_are_not_taken_back_again_and_again(
    speaking: Daemon, steps: Steps
):
    steps.start()
    until_said(steps, **ALL_WELL)
    steps.change("gateways", {"spec": {"gatewayClassName": "another"}})
    until("it is told", lambda: "nothing any more" in speaking.told())
    status = f"{steps.path('gateways')}/status?fieldManager={MANAGER}"
    steps.cluster.call("PATCH", status, {"status": {"conditions": [condition("Other")]}}, MERGE)
    assert steps.managers() == {MANAGER: "Update"}
    told = speaking.told().count("nothing any more")
    stays("nothing is written", lambda: speaking.told().count("nothing any more") == told, 5)


def condition(kind: str) -> dict[str, str]:
    words = {"reason": "Some", "message": "by hand", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    return {"type": kind, "status": "True", **words}
