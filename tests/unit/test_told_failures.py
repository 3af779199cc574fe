"""How often the log tells that a source fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from rayproxy.report.metrics import Metrics
from rayproxy.report.reporter import Reporter


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


@pytest.mark.fault(14)
def test_a_permission_that_is_missing_is_told_once_though_others_of_the_resource_may_be_read(reporter: Reporter):
    with capture_logs() as lines:
        for _ in range(3):
            reporter.failure("services", "forbidden", "not in namespace b")
            reporter.contact("services")
    assert [line["error"] for line in lines] == ["not in namespace b"]
