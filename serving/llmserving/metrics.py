"""What Prometheus is told, at /metrics and, in a Ray Serve replica, through Ray's own metrics too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmserving.engines.base import Stats

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
COUNTERS = {
    "serving_requests": ("requests by route and status", ("route", "status")),
    "serving_prompt_tokens": ("prompt tokens taken in", ()),
    "serving_generation_tokens": ("tokens generated", ()),
}
HISTOGRAMS = {
    "serving_time_to_first_token_seconds": "from the request to its first token",
    "serving_inter_token_seconds": "between two tokens of a sequence",
    "serving_request_seconds": "from the request to its last byte",
}
GAUGES = {
    "serving_sequences_running": "sequences being computed",
    "serving_sequences_waiting": "sequences waiting for a place",
    "serving_cache_usage_ratio": "share of the key-value cache in use",
}


class Metrics:
    """Record what happens, in a registry of its own and, if `ray` is given, in Ray's (`ray.serve.metrics`)."""

    def __init__(self, stats: Callable[[], Stats], ray: Any = None) -> None:  # noqa: ANN401 - a module
        self.registry = CollectorRegistry()
        self._stats = stats
        self._counters = {
            name: Counter(name, text, labels, registry=self.registry) for name, (text, labels) in COUNTERS.items()
        }
        self._histograms = {
            name: Histogram(name, text, buckets=SECONDS, registry=self.registry) for name, text in HISTOGRAMS.items()
        }
        self._gauges = {name: Gauge(name, text, registry=self.registry) for name, text in GAUGES.items()}
        self._ray = _ray_metrics(ray) if ray else {}

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        counter = self._counters[name]
        (counter.labels(**labels) if labels else counter).inc(amount)
        if name in self._ray:
            self._ray[name].inc(amount, tags=labels)

    def observe(self, name: str, seconds: float) -> None:
        """Add one duration to a histogram."""
        self._histograms[name].observe(seconds)
        if name in self._ray:
            self._ray[name].observe(seconds)

    def refresh(self) -> None:
        """Set the gauges to what the engine is doing now."""
        stats = self._stats()
        values: Sequence[float] = (stats.running, stats.waiting, stats.cache_usage)
        for name, value in zip(GAUGES, values, strict=True):
            self._gauges[name].set(value)
            if name in self._ray:
                self._ray[name].set(value)

    def exposition(self) -> bytes:
        """Return the registry in Prometheus' text format."""
        self.refresh()
        return generate_latest(self.registry)


def _ray_metrics(ray: Any) -> dict[str, Any]:  # noqa: ANN401
    counters = {
        name: ray.Counter(name, description=text, tag_keys=labels) for name, (text, labels) in COUNTERS.items()
    }
    histograms = {
        name: ray.Histogram(name, description=text, boundaries=list(SECONDS)) for name, text in HISTOGRAMS.items()
    }
    gauges = {name: ray.Gauge(name, description=text) for name, text in GAUGES.items()}
    return {**counters, **histograms, **gauges}
