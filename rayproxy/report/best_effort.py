"""Tell of a source that nothing depends on: that it may not be read is said once, and raises no alarm."""

from __future__ import annotations

import structlog

from rayproxy.sources.reflector import Observer

MISSING = ("forbidden", "not_found")  # a role of an earlier version, or an API server that does not have it


class BestEffort:
    """Pass on what a reflector lives through, but for what is missing for good; `said` is what others of it told."""

    def __init__(self, observer: Observer, said: set[str]) -> None:
        self._observer = observer
        self._said = said
        self._mine = ""

    def contact(self, resource: str) -> None:
        """Note an answer of the API server."""
        self._said.discard(self._mine)
        self._observer.contact(resource)

    def failure(self, resource: str, reason: str, message: str) -> None:
        """Note that a list or watch failed."""
        if reason not in MISSING:
            self._observer.failure(resource, reason, message)
            return
        self._observer.contact(resource)  # a refusal is an answer: nobody is silent
        if message not in self._said:
            self._said.add(message)
            self._mine = message
            words = "not to be read: routes go on, and who answers behind them is not known; rayproxy check says more"
            structlog.get_logger().warning(words, resource=resource, error=message)

    def repaired(self, resource: str, count: int) -> None:
        """Note that a relist found what the watch had not told."""
        self._observer.repaired(resource, count)
