"""The commands against a real API server, and the Events that two daemons write."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rayproxy.report.happenings import SPAN
from tests.support.cli import rayproxy
from tests.support.daemon import Daemon
from tests.support.kuberay import KubeRay
from tests.support.waiting import until


def test_render_shows_what_the_daemon_would_write(daemon: Daemon, kuberay: KubeRay, tmp_path: Path):
    kuberay.routed("chat")
    kuberay.rayservice("coming")
    shown = rayproxy(daemon, "render")
    assert shown.returncode == 0, shown.stderr
    assert f"pending: {kuberay.namespace}/coming" in shown.stderr
    written = rayproxy(daemon, "render", "-o", str(tmp_path))
    assert written.returncode == 0, written.stderr
    assert (tmp_path / "ray-chat.conf").read_text() in shown.stdout
    daemon.start()
    assert daemon.files()["ray-chat.conf"] == (tmp_path / "ray-chat.conf").read_text()
    assert rayproxy(daemon, "render", "--diff").returncode == 0
    kuberay.rayservice("another")
    daemon.until_state("another", "pending", kuberay.namespace)
    daemon.stop()
    kuberay.delete_rayservice("chat")
    differs = rayproxy(daemon, "render", "--diff")
    assert differs.returncode == 1
    assert "--- live/ray-chat.conf" in differs.stdout


def test_routes_lists_every_rayservice_with_state_and_reason(daemon: Daemon, kuberay: KubeRay):
    _, service = kuberay.routed("chat")
    kuberay.rayservice("coming")
    kuberay.rayservice("no.good")
    assert "is it running" in rayproxy(daemon, "routes").stderr
    daemon.start()
    lines = {line.split()[0]: line for line in rayproxy(daemon, "routes").stdout.splitlines()}
    assert f"{service['spec']['clusterIP']}:{kuberay.port}" in lines["chat"]
    assert "pending" in lines["coming"]
    assert "rejected" in lines["no.good"]
    rows = json.loads(rayproxy(daemon, "routes", "-o", "json").stdout)
    assert [row["state"] for row in rows] == ["accepted", "pending", "rejected"]


def test_check_finds_everything_in_order_and_says_what_was_looked_at(daemon: Daemon, kuberay: KubeRay):
    done = rayproxy(daemon, "check")
    assert done.returncode == 0, done.stdout
    assert f"ok    may watch rayservices in {kuberay.namespace}" in done.stdout
    assert f"ok    may watch endpointslices in {kuberay.namespace}" in done.stdout
    assert "FAIL" not in done.stdout


def test_check_says_what_to_do_about_an_api_server_that_lets_nobody_in(
    make_daemon: Callable[..., Daemon], kuberay: KubeRay, folder: Path
):
    daemon = make_daemon(KUBECONFIG=str(kuberay.cluster.kubeconfig(folder, token="nobody")))
    done = rayproxy(daemon, "check")
    assert done.returncode == 1
    assert "401" in done.stdout


def test_a_kubeconfig_that_is_not_there_is_named(make_daemon: Callable[..., Daemon], folder: Path):
    daemon = make_daemon(KUBECONFIG=str(folder / "missing"))
    done = rayproxy(daemon, "run")
    assert done.returncode == 1
    assert str(folder / "missing") in done.stderr
    assert "KUBECONFIG" in done.stderr


@pytest.fixture
def make_replica(daemon: Daemon) -> Iterator[Callable[..., Daemon]]:
    """Return a function that makes another daemon with the same settings, but for those given, and its own folders."""
    with tempfile.TemporaryDirectory(prefix="rp-") as folder, contextlib.ExitStack() as stack:
        Path(folder).chmod(0o755)

        def make(**settings: str) -> Daemon:
            replica = Daemon(Path(folder), daemon.settings | settings)
            stack.callback(replica.clean_up)
            return replica

        yield make


@pytest.fixture
def _within_a_span() -> None:
    """Wait where the clock is about to begin another span, in which each replica would tell again."""
    until("the span is long enough", lambda: SPAN - time.time() % SPAN > 60, 70)


@pytest.mark.usefixtures("_within_a_span")
def test_two_daemons_write_each_event_once(daemon: Daemon, make_replica: Callable[..., Daemon], kuberay: KubeRay):
    rayservice, service = kuberay.routed("chat")
    kuberay.rayservice("no.good")
    kuberay.routed("zz-last")  # the two differ about this one, which each tells last
    replica = make_replica(ALLOWED_CIDRS=f"{service['spec']['clusterIP']}/32")
    for each in (daemon, replica):
        each.start()
    until("both have told all", lambda: len(kuberay.events("zz-last")) == 2)
    assert {event["reason"] for event in kuberay.events("zz-last")} == {"RouteAccepted", "RouteRejected"}
    [event] = kuberay.events("chat")
    assert (event["type"], event["reason"]) == ("Normal", "RouteAccepted")
    assert service["spec"]["clusterIP"] in event["message"]
    assert event["involvedObject"]["uid"] == rayservice["metadata"]["uid"]
    [event] = kuberay.events("no.good")
    assert event["reason"] == "RouteRejected"
    for each in (daemon, replica):
        assert each.metric("rayproxy_events_failed_total") == 0


@pytest.mark.slow
@pytest.mark.fault(101)
@pytest.mark.usefixtures("_within_a_span")
def test_that_nobody_answers_is_told_once_by_two_daemons(
    daemon: Daemon, make_replica: Callable[..., Daemon], kuberay: KubeRay
):
    _, service = kuberay.routed("chat")
    kuberay.endpoints(service, False)
    pair = (daemon.start(), make_replica().start())
    for words, reason in (("route unavailable", "RouteUnavailable"), ("route ready", "RouteReady")):
        until("both have told", lambda words=words: all(words in each.log.read_text() for each in pair))
        until("it is written", lambda reason=reason: reason in {each["reason"] for each in kuberay.events("chat")})
        kuberay.endpoints(service, True)
    assert sorted(event["reason"] for event in kuberay.events("chat")) == [
        "RouteAccepted", "RouteReady", "RouteUnavailable",
    ]  # fmt: skip
    assert [each.metric("rayproxy_events_failed_total") for each in pair] == [0, 0]


@pytest.mark.usefixtures("_within_a_span")
def test_pending_for_too_long_is_told_once_by_two_daemons(
    make_daemon: Callable[..., Daemon], kuberay: KubeRay, folder: Path
):
    settings = {
        "KUBECONFIG": str(kuberay.cluster.kubeconfig(folder)),
        "NAMESPACES": kuberay.namespace,
        "PENDING_WARNING": "1",
    }
    kuberay.rayservice("chat")
    first = make_daemon(**settings).start()
    event = until("told", lambda: kuberay.events("chat"))[0]
    assert (event["type"], event["reason"]) == ("Warning", "RoutePending")
    assert "KubeRay creates it once every Serve application runs" in event["message"]
    first.stop()
    (first.state / "status.json").unlink()  # another replica's memory: it saw the RayService at another second
    again = first.start()
    until("pending again for a second and more", lambda: again.metric("rayproxy_pending_longest_seconds") > 1)
    until("told again", lambda: "pending too long" in again.log.read_text().split("ended")[-1])
    assert again.log.read_text().count("pending too long") == 2
    assert len(kuberay.events("chat")) == 1
