"""How often the log tells that a source fails."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from rayproxy.nginx.process import NginxError
from rayproxy.reconcile.plan import Changes
from rayproxy.reconcile.reconciler import Outcome
from rayproxy.report.allowance import BURST, REFILL
from rayproxy.report.best_effort import BestEffort
from rayproxy.report.metrics import Metrics
from rayproxy.report.reporter import Reporter
from rayproxy.report.told import CALM, Told
from rayproxy.sources.base import MissingSourceError, NotSyncedError

ALERTS = Path(__file__).parents[2] / "deploy/monitoring/alerts.yaml"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def reporter(registry: CollectorRegistry, tmp_path: Path) -> Reporter:
    return Reporter(Metrics(registry), tmp_path / "status.json", lambda _: None, 600.0)


@pytest.mark.fault(3)
def test_an_api_server_that_is_away_for_long_is_told_once_and_so_is_its_return(
    reporter: Reporter, registry: CollectorRegistry
):
    with capture_logs() as lines:
        for _ in range(9):
            reporter.failure("services", "unreachable", "connection refused")
            reporter.failure("rayservices", "unreachable", "connection refused")
        reporter.failure("services", "unreachable", "no route to host")
        reporter.contact("services")
        reporter.contact("services")
        reporter.failure("services", "unreachable", "connection refused")
    assert [(line["event"][:21], line["resource"], line.get("error")) for line in lines] == [
        ("source failed; what i", "services", "connection refused"),
        ("source failed; what i", "rayservices", "connection refused"),
        ("source failed; what i", "services", "no route to host"),
        ("source answers again", "services", None),
        ("source failed; what i", "services", "connection refused"),
    ]
    labels = {"resource": "services", "reason": "unreachable"}
    assert registry.get_sample_value("rayproxy_watch_failures_total", labels) == 11, "each is counted"


@pytest.mark.fault(18)
def test_what_fails_after_each_list_that_succeeds_is_told_some_times_and_then_now_and_then(
    reporter: Reporter, monkeypatch: pytest.MonkeyPatch
):
    def told(times: int) -> list[str]:
        with capture_logs() as lines:
            for _ in range(times):
                reporter.failure("services", "garbled", "no JSON")
                reporter.contact("services")
        return [line["event"].partition(";")[0] for line in lines]

    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert told(100) == ["source failed", "source answers again"] * BURST
    monkeypatch.setattr(time, "monotonic", lambda: now + REFILL + 1)
    assert told(100) == ["source failed", "source answers again"]


@pytest.mark.fault(18)
def test_a_namespace_whose_watch_fails_now_and_then_silences_no_other_one(reporter: Reporter):
    asked = "GET /apis/ray.io/v1/namespaces/{}/rayservices"
    loud, quiet = asked.format("team-7"), asked.format("team-8")
    ways = (f"{loud} (watch): no JSON", f"{loud}: 500 etcd", f"{loud} at http://10.0.0.1: TimeoutError: timed out")
    with capture_logs() as lines:
        for number in range(3 * BURST):
            reporter.failure("rayservices", "garbled", ways[number % 3])
            reporter.contact("rayservices")
        reporter.failure("rayservices", "server_error", f"{quiet}: 500 etcd")
    told = [line["error"] for line in lines if "error" in line]
    assert (len(told), told[-1]) == (BURST + 1, f"{quiet}: 500 etcd"), "whatever is wrong with one is one thing"


@pytest.mark.fault(14)
def test_a_permission_that_is_missing_is_told_once_though_others_of_the_resource_may_be_read(reporter: Reporter):
    with capture_logs() as lines:
        for _ in range(3):
            reporter.failure("services", "forbidden", "not in namespace b")
            reporter.contact("services")
    assert [line["error"] for line in lines] == ["not in namespace b"]


@pytest.mark.fault(137)
def test_while_nothing_is_known_yet_no_reload_has_failed_and_the_silence_has_an_age(
    reporter: Reporter, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
):
    for second in (100.0, 200.0):
        monkeypatch.setattr(time, "time", lambda second=second: second)
        reporter.failure("services", "unreachable", "connection refused")
        reporter.failed(NotSyncedError("no whole list yet"))
    assert registry.get_sample_value("rayproxy_config_last_reload_successful") == 1
    assert registry.get_sample_value("rayproxy_source_problems") == 1
    assert heard(registry, "services") == 100.0
    reporter.failed(NginxError("it does not start"))
    assert registry.get_sample_value("rayproxy_config_last_reload_successful") == 0


@pytest.mark.fault(137)
@pytest.mark.parametrize("reason", ["not_found", "forbidden"])
def test_what_is_not_installed_or_not_allowed_is_not_silent_when_the_api_server_is_back(
    reporter: Reporter, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, reason: str
):
    for observer, resource in ((reporter, "inferenceservices"), (BestEffort(reporter, set()), "endpointslices")):
        monkeypatch.setattr(time, "time", lambda: 100.0)
        observer.failure(resource, "unreachable", "connection refused")
        monkeypatch.setattr(time, "time", lambda: 200.0)
        for _ in range(2):
            observer.failure(resource, reason, f"no {resource}")
        assert heard(registry, resource) == 200.0


def alert(name: str) -> dict[str, Any]:
    """Return an alert of `deploy/`."""
    rules = yaml.safe_load(ALERTS.read_text())["spec"]["groups"][0]["rules"]
    return next(rule for rule in rules if rule["alert"] == name)


def done(*problems: str) -> Outcome:
    return Outcome((), problems, "r", Changes(), reloaded=False)


@pytest.mark.fault(137)
@pytest.mark.parametrize(
    "end", [done("chat.yaml is not read"), NotSyncedError("no whole list yet"), MissingSourceError("no such folder")]
)
def test_whatever_is_counted_as_a_problem_has_a_line_of_the_log_that_the_alert_names(
    reporter: Reporter, registry: CollectorRegistry, end: Outcome | Exception
):
    with capture_logs() as lines:
        if isinstance(end, Outcome):
            reporter.done(end, 0.0, None)
        else:
            reporter.failed(end)
    assert registry.get_sample_value("rayproxy_source_problems") == 1
    [event] = [line["event"] for line in lines]
    assert event in re.findall("`(.+?)`", alert("RayproxyProblems")["annotations"]["description"])


@pytest.mark.fault(18)
def test_problems_that_come_and_go_are_told_once_and_whichever_is_new_alone(reporter: Reporter):
    with capture_logs() as lines:
        for problems in (("a", "b"), ("a",), ("b", "a"), (), ("a", "c", "a"), ("c",), ("a",)):
            reporter.done(done(*problems), 0.0, None)
    assert [line["problem"] for line in lines] == ["a", "b", "c"]


@pytest.mark.fault(18)
def test_what_was_well_for_a_while_and_is_not_any_more_is_told_again():
    told = Told()
    assert told.news(["a"], 0.0) == ["a"]
    assert told.news(["a"], CALM * 2) == told.news([], CALM * 2) == []
    assert told.news(["a"], CALM * 3 - 1) == told.news([], CALM * 3) == []
    assert told.news(["a"], CALM * 4) == ["a"]


def heard(registry: CollectorRegistry, resource: str) -> float | None:
    return registry.get_sample_value("rayproxy_source_last_contact_timestamp_seconds", {"resource": resource})
