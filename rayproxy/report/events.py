"""Kubernetes Events on the routed objects, so that `kubectl describe` says what the proxy thinks.

Replicas need no leader for them: an Event's name is a hash of what it says and when (`happenings`), so the second one
to write it gets 409, which is success.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from rayproxy.dns_names import DNS_1123_LABEL
from rayproxy.kinds import KINDS
from rayproxy.kinds.base import path
from rayproxy.kube.api import ApiError, ApiServer
from rayproxy.model import Ref
from rayproxy.objects import rfc3339
from rayproxy.report.allowance import Allowance
from rayproxy.report.behind import UNAVAILABLE, Turn
from rayproxy.report.fair_queue import FairQueue
from rayproxy.report.happenings import Happenings
from rayproxy.report.status import ACCEPTED, PENDING, REFUSED, REJECTED, SUSPENDED, Status

QUEUE = 10_000
# A server that has no time now, or is being restarted, is asked again as often as Kubernetes' own controllers ask it.
TRIES = 12
PAUSE = 10.0  # s, where it does not say for how long
LEAST, MOST = 1.0, 60.0  # s, whatever it says
FOR_NOW = (0, 429, 502, 503, 504)  # what is no fault of the Event; 0 is no answer, and 500 a webhook's, as a rule
MESSAGE = 1024  # characters; the API server refuses more


@dataclass(frozen=True, slots=True)
class Event:
    """What an Event says about one object."""

    ref: Ref
    uid: str
    type: str  # Normal or Warning
    reason: str
    message: str
    key: str = ""  # what names it among those of its reason; default: the message

    @property
    def says(self) -> str:
        """Return what makes it another Event than those that say something else."""
        return f"{self.uid}\0{self.type}\0{self.reason}\0{self.key or self.message}"

    def body(self, name: str, now: str) -> dict[str, Any]:
        """Return the object to POST; `name` tells it from the object's others, `now` is RFC 3339."""
        kind = KINDS[self.ref.kind]
        stem = self.ref.name[:180].rstrip("-.")
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{stem}.rayproxy-{name}", "namespace": self.ref.namespace},
            "involvedObject": {
                "apiVersion": kind.api_version, "kind": kind.routed.kind,
                "namespace": self.ref.namespace, "name": self.ref.name, "uid": self.uid,
            },
            "type": self.type,
            "reason": self.reason,
            "message": self.message[:MESSAGE],
            "source": {"component": "rayproxy"},
            "reportingComponent": "rayproxy",
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }  # fmt: skip


def about(status: Status, before: str = "", *, too_long: bool = False) -> Event | None:
    """Return the Event for a new state, or for one that has been pending too long; `before` is the state before.

    A fresh pending has none.
    """
    if status.state == ACCEPTED:
        kind, reason, message = "Normal", "RouteAccepted", f"{path(status.ref)}/ goes to {status.backend}"
    elif status.state == PENDING and too_long:
        # without the time since when: replicas differ by a second, and would write it twice
        kind, reason, message = "Warning", "RoutePending", f"pending for too long: {status.message}"
    elif status.state == PENDING and before in (REJECTED, REFUSED):  # else that stays the last word
        kind, reason, message = "Normal", "RoutePending", f"no longer {before}: {status.message}"
    elif status.state == PENDING:
        return None
    elif status.state == SUSPENDED:  # somebody wished it so
        kind, reason, message = "Normal", "RouteSuspended", status.message
    elif status.state == REFUSED:
        who = KINDS[status.ref.kind].controller
        kind, reason = "Warning", "RouteRefused"
        message = f"{who} goes no further with it: {status.reason}: {status.message}"
    else:
        kind, reason, message = "Warning", "RouteRejected", f"{status.reason}: {status.message}"
    return Event(status.ref, status.uid, kind, reason, message)


def turned(turn: Turn, uid: str) -> Event:
    """Return the Event for a route that turned unavailable, or ready again.

    It has no count, and no time but that in its controller's words. These may change while replicas look a moment
    apart, so that the first of them names it, where it has the time.
    """
    first = turn.words.partition(": ")[0]
    key = first if " since " in first else ""
    if turn.state == UNAVAILABLE:
        words = f": {turn.words}" if turn.words else ""
        return Event(turn.ref, uid, "Warning", "RouteUnavailable", f"none of its endpoints is ready{words}", key)
    words = f"; before: {turn.words}" if turn.words else ""
    return Event(turn.ref, uid, "Normal", "RouteReady", f"its endpoints are ready again{words}", key)


class Recorder:
    """Write Events; `run` is for a thread of its own, so that a slow API server never holds a route up."""

    def __init__(self, api: ApiServer, failed: Callable[[str], None], stop: threading.Event | None = None) -> None:
        self._api = api
        self._failed = failed
        self._stop = stop or threading.Event()
        self._events: FairQueue[tuple[Event, str, float]] = FairQueue(QUEUE)  # with its name, and when it happened
        self._allowance = Allowance()
        self._happenings = Happenings()

    def record(self, event: Event) -> None:
        """Queue an Event; when thousands wait already, one of the namespace that has most is dropped and counted.

        One of an object that has had its share says nothing: `rayproxy routes` and the log have the state anyway.
        """
        if not DNS_1123_LABEL.fullmatch(event.ref.namespace):  # it becomes a part of a URL
            return
        if not self._allowance.take(event.ref, time.monotonic()):
            return
        now = time.time()
        if not self._events.put(event.ref.namespace, (event, self._happenings.name(event.says, now), now)):
            self._failed("too many Events are waiting")

    def run(self) -> None:
        """Write what is recorded, until stopped."""
        while not self._stop.is_set():
            event, name, happened = self._events.get()
            self._write(event.ref.namespace, event.body(name, rfc3339(happened)))

    def _write(self, namespace: str, body: dict[str, Any]) -> None:
        """Write an Event, and again where that may help: that it is there already is as good."""
        for left in reversed(range(TRIES)):
            try:
                self._api.send("POST", f"/api/v1/namespaces/{namespace}/events", body)
                return
            except ApiError as error:
                if error.status == HTTPStatus.CONFLICT:
                    return
                if not left or not _passes(error) or self._stop.wait(_pause(error)):
                    self._failed(str(error))
                    return


def _passes(error: ApiError) -> bool:
    """Tell whether what is wrong is wrong for now, and not with the Event."""
    return error.status in FOR_NOW or (error.status == HTTPStatus.INTERNAL_SERVER_ERROR and bool(error.retry_after))


def _pause(error: ApiError) -> float:
    """Return for how long a server is left alone that wishes for so much, or does not say."""
    wished = error.retry_after or 0.0
    return min(max(LEAST, wished), MOST) if wished > 0 else PAUSE
