"""The metrics, on a registry that is handed in."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from rayproxy import VERSION
from rayproxy.model import Ref
from rayproxy.report.behind import Behind
from rayproxy.report.status import STATES

_SECONDS = (0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60)


class Metrics:
    """Hold every metric of the daemon."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        build = Gauge("rayproxy_build_info", "1, labelled with the version that runs", ["version"], registry=registry)
        build.labels(VERSION).set(1)
        self.reload_successful = Gauge(
            "rayproxy_config_last_reload_successful",
            "0 if the last cycle did not leave nginx serving what it should, else 1", registry=registry,
        )  # fmt: skip
        self.reload_successful.set(1)  # while nothing is known that nginx should serve, it is not nginx that fails
        self.reload_time = Gauge(
            "rayproxy_config_last_reload_success_timestamp_seconds", "When a reload was last proven",
            registry=registry,
        )  # fmt: skip
        self.reloads = Counter("rayproxy_reloads", "Reloads of nginx by result", ["result"], registry=registry)
        self.duration = Histogram(
            "rayproxy_reconcile_duration_seconds", "Duration of a cycle", buckets=_SECONDS, registry=registry
        )
        self.routes = Gauge("rayproxy_routes", "Routed objects by state", ["state"], registry=registry)
        self.contact = Gauge(
            "rayproxy_source_last_contact_timestamp_seconds",
            "When the source last answered; before that, when it was first asked in vain", ["resource"],
            registry=registry,
        )  # fmt: skip
        self.watch_failures = Counter(
            "rayproxy_watch_failures", "Failed lists and watches", ["resource", "reason"], registry=registry
        )
        self.repairs = Counter(
            "rayproxy_relist_repairs", "Objects that a relist had to mend: what the watch did not tell", ["resource"],
            registry=registry,
        )  # fmt: skip
        self.problems = Gauge(
            "rayproxy_source_problems",
            "Objects, files or templates that could not be used, and resources that cannot be read at the moment",
            registry=registry,
        )
        self.propagation = Histogram(
            "rayproxy_route_propagation_seconds", "From a change to the proof that nginx serves it",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.workers = Gauge("rayproxy_nginx_workers", "nginx workers by state", ["state"], registry=registry)
        self.waits = Gauge(
            "rayproxy_changes_wait", "1 while changes wait because too many nginx workers drain, else 0",
            registry=registry,
        )  # fmt: skip
        self.pending_longest = Gauge(
            "rayproxy_pending_longest_seconds", "How long the longest pending object has been pending",
            registry=registry,
        )  # fmt: skip
        self.endpoints = Gauge(
            "rayproxy_route_ready_endpoints", "Endpoints behind an accepted route that are ready, where that is known",
            ["route"], registry=registry,
        )  # fmt: skip
        self.events_failed = Counter(
            "rayproxy_events_failed", "Kubernetes Events that could not be written", registry=registry
        )
        self._answering: Mapping[Ref, int] = {}
        self.count([])

    def count(self, states: Iterable[str]) -> None:
        """Set the number of routes in each state."""
        tally = Tally(states)
        for state in STATES:
            self.routes.labels(state).set(tally[state])

    def answering(self, found: Mapping[Ref, Behind]) -> None:
        """Set what changed of who answers behind the routes."""
        before, self._answering = self._answering, {ref: each.ready for ref, each in found.items()}
        for ref in before.keys() - found.keys():
            self.endpoints.remove(_route(ref))
        for ref, ready in self._answering.items():
            if before.get(ref) != ready:
                self.endpoints.labels(_route(ref)).set(ready)


def _route(ref: Ref) -> str:
    """Return a route in one label: `namespace` would be taken for that of the proxy's pod."""
    return f"{ref.kind}/{ref}"
