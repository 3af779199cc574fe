"""What a daemon makes of the status file that the one before it left."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from rayproxy.model import Decision, Pending, Ref
from rayproxy.objects import rfc3339
from rayproxy.reconcile.plan import Changes
from rayproxy.reconcile.reconciler import Outcome
from rayproxy.report import status
from rayproxy.report.events import Event
from rayproxy.report.metrics import Metrics
from rayproxy.report.reporter import Reporter
from rayproxy.report.status import PENDING, Status
from rayproxy.sources.base import NotSyncedError

REF = Ref("rayservice", "ml", "chat")
STATUS = Status("ml", "chat", "uid", PENDING, "", "ServiceNotReady", "no Service yet", "2024-01-01T00:00:00Z")
HOURS = 7200


@pytest.mark.fault(155)
@pytest.mark.parametrize(
    ("found", "told"),
    [((Pending(REF, "uid", "no Service yet"),), 1), ((Pending(REF, "another", "no Service yet"),), 0), ((), 0)],
    ids=["pending still", "made anew", "gone"],
)
def test_what_was_pending_before_a_restart_is_told_of_once_it_was_looked_at(
    tmp_path: Path, found: tuple[Decision, ...], told: int
):
    before = replace(STATUS, since=rfc3339(time.time() - HOURS))
    status.write(tmp_path / "status.json", {REF: before})
    events: list[Event] = []
    registry = CollectorRegistry()
    reporter = Reporter(Metrics(registry), tmp_path / "status.json", events.append, 600.0)
    for _ in range(2):
        reporter.nginx(2, 0)
        reporter.failed(NotSyncedError("the lists are not whole yet"))
    assert (events, registry.get_sample_value("rayproxy_pending_longest_seconds")) == ([], 0)
    reporter.done(Outcome(found, (), "r", Changes(), reloaded=False), 0.0, None)
    reporter.nginx(2, 0)
    assert [event.reason for event in events] == ["RoutePending"] * told
    longest = registry.get_sample_value("rayproxy_pending_longest_seconds")
    assert longest is not None
    assert (longest >= HOURS) is bool(told)


@pytest.mark.fault(155)
def test_a_row_of_a_kind_that_a_newer_build_had_is_left_out(tmp_path: Path):
    other = replace(STATUS, kind="inferencepool")
    status.write(tmp_path / "status.json", {each.ref: each for each in (STATUS, other)})
    assert status.read(tmp_path / "status.json") == {REF: STATUS}
