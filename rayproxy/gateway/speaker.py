"""Say the Gateway API's words: a thread that looks at what is known, and writes what is not said yet."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

import structlog

from rayproxy.gateway import conditions, replicas, status
from rayproxy.gateway.objects import CLASSES, GATEWAYS, HTTPROUTES, Gateway, manager
from rayproxy.gateway.proofs import Proofs
from rayproxy.gateway.source import GatewaySource, Known, Scope
from rayproxy.kube.api import ApiError, ApiServer
from rayproxy.model import Decision, Ref, Resource, Route
from rayproxy.objects import rfc3339

PACE = 1.0  # s between two turns
SILENT = 30.0  # s without anybody who speaks, after which that is told
MOST = 100  # objects that are spoken of in a turn
AGAIN = 15.0  # s after which what was not taken is tried again: an object of somebody's may have no room for words
REFUSED = range(400, 500)
APPLY, MERGE = "application/apply-patch+yaml", "application/merge-patch+json"

Found = Mapping[Ref, Decision]


@dataclass(frozen=True, slots=True)
class Write:
    """Where something is written, and what: applied to the status in a manager's name, without one merged."""

    path: str
    body: status.Body
    manager: str = ""


class Speaker:
    """Speak for the Gateways of a class, while this replica is the one that does; else say what it has proven."""

    def __init__(
        self, api: ApiServer, scope: Scope, proofs: Proofs, source: GatewaySource, wake: threading.Event
    ) -> None:
        self._api = api
        self._scope = scope
        self._proofs = proofs
        self._source = source
        self._wake = wake
        self._stop = threading.Event()
        # Times are monotonic, but for the wall's that is written and that replicas compare: it may be set back.
        self._told: tuple[frozenset[str], float] = frozenset(), float("-inf")  # what this replica has said, and when
        self._written: dict[str, float] = {}
        self._failures: dict[str, tuple[float, str]] = {}  # {where: from when on to try again, and what failed}
        self._silent: float | None = None  # since when nobody speaks
        self._log = structlog.get_logger()

    @property
    def threads(self) -> list[tuple[str, Callable[[], None]]]:
        """Return a name and a blocking function for each thread that it needs."""
        return [("gateways", self.run), *self._source.threads]

    def stop(self) -> None:
        """Let its threads end."""
        self._stop.set()
        self._wake.set()
        self._source.stop()

    def run(self) -> None:
        """Speak until stopped."""
        while not self._stop.is_set():
            self._wake.wait(replicas.BEAT)
            self._wake.clear()
            self._turn(time.time())
            self._stop.wait(PACE)

    def _turn(self, wall: float) -> None:
        known, found = self._source.known(), self._proofs.found
        if known is None or found is None:
            return
        mine = known.of_class(self._scope.class_name)
        proven = frozenset(_tokens(mine.values(), found)) if self._proofs.hold else frozenset()
        entries = self._share(known, proven, wall, needed=bool(mine))
        speaks = replicas.speaker(known.ready, entries, wall)
        self._note_silence(silent=bool(mine) and not speaks, now=time.monotonic())
        if speaks != self._scope.me:
            return
        lacking = partial(_lacking, known.ready, entries, wall)
        self._speak(_writes(known, self._scope.class_name, found, lacking))

    def _speak(self, writes: Iterable[Write]) -> None:
        """Write, for no longer than until the others are to hear of this replica; the rest goes with the next turn."""
        now = time.monotonic()
        until = now + replicas.BEAT
        due = [write for write in writes if now >= self._failures.get(write.path, (0.0, ""))[0]]
        for write in in_turns(due, self._written)[:MOST]:
            if self._stop.is_set() or time.monotonic() > until:
                break
            self._written[write.path] = now
            self._apply(write, now)
        self._written = {path: at for path, at in self._written.items() if now - at < replicas.FORGOTTEN}
        self._failures = {path: it for path, it in self._failures.items() if now - it[0] < replicas.FORGOTTEN}

    def _share(self, known: Known, proven: frozenset[str], wall: float, *, needed: bool) -> replicas.Entries:
        """Tell the others what this replica has proven, where it is time to; return what all have told."""
        own, now = {self._scope.me: replicas.Entry(int(wall), proven)}, time.monotonic()
        configmap = self._scope.configmap
        if configmap is None:
            return own
        before, at = self._told
        if needed and (proven != before or now - at >= replicas.BEAT):
            gone = dict.fromkeys(replicas.forgotten(known.ready, known.entries, wall))
            path = f"{replicas.CONFIGMAPS.path(configmap.namespace)}/{configmap.name}"
            if self._send(Write(path, {"data": gone | {self._scope.me: replicas.write(proven, wall)}}), now):
                self._told = proven, now
        return known.entries

    def _note_silence(self, *, silent: bool, now: float) -> None:
        """Tell, once, that nobody speaks."""
        if not silent:
            self._silent = None
        elif self._silent is None:
            self._silent = now
        elif now - self._silent > SILENT:
            self._silent = float("inf")  # told
            words = (
                "nobody speaks for the Gateways of the class: no pod of the Service is ready and has said what it has "
                "proven; RAYPROXY_REPLICAS_SERVICE names the Service that callers come by, RAYPROXY_REPLICA this pod"
            )
            self._log.warning(words, service=str(self._scope.home), replica=self._scope.me)

    def _apply(self, write: Write, now: float) -> None:
        if self._send(write, now):
            what = f"{write.body['kind']} {_named(write.body)}"
            self._log.info("said of a Gateway", object=what, words=_said(write.body))

    def _send(self, write: Write, now: float) -> bool:
        """Send a patch; what fails is told once."""
        path, applies = write.path, bool(write.manager)
        query = {"fieldManager": write.manager, "force": "true"} if applies else None
        where, content_type = (f"{path}/status", APPLY) if applies else (path, MERGE)
        try:
            self._api.send("PATCH", where, write.body, query, content_type)
        except ApiError as error:
            gone = error.status == HTTPStatus.NOT_FOUND and applies
            if not gone and error.status != HTTPStatus.CONFLICT:  # else somebody was quicker
                self._note_failure(path, error, now)
            return False
        self._failures.pop(path, None)
        return True

    def _note_failure(self, path: str, error: ApiError, now: float) -> None:
        if str(error) not in {told for _, told in self._failures.values()}:
            self._log.warning("not said; rayproxy check names a missing permission", error=str(error))
        self._failures[path] = now + (AGAIN if error.status in REFUSED else 0.0), str(error)


def in_turns(writes: Iterable[Write], written: Mapping[str, float]) -> list[Write]:
    """Return them in the order in which they are due: no namespace waits for all that another one has."""
    seen: Counter[str] = Counter()
    ranked: list[tuple[int, Write]] = []
    for write in sorted(writes, key=lambda write: written.get(write.path, 0.0)):
        namespace = write.body["metadata"].get("namespace", "")
        ranked.append((seen[namespace], write))
        seen[namespace] += 1
    return [write for _, write in sorted(ranked, key=lambda each: each[0])]


def _writes(known: Known, class_name: str, found: Found, lacking: conditions.Proven) -> Iterator[Write]:
    """Yield what is to be written, where it is not said already."""
    now, own, mine = rfc3339(time.time()), manager(class_name), known.of_class(class_name)
    for each in known.classes:
        if wanted := conditions.of_class(each):
            yield from _due(CLASSES, status.of_class(each, wanted, now), own)
    for gateway in (each for each in known.gateways.values() if not each.terminating):
        if gateway.key in mine:
            said = conditions.of_gateway(gateway, found, lacking)
            yield from _due(GATEWAYS, status.of_gateway(gateway, said, now), own)
        for other in conditions.outdated(gateway, mine, class_name):
            yield from _due(GATEWAYS, status.nothing(gateway), other)
    spoken = {key: each for key, each in mine.items() if each.spoken}
    for httproute in known.httproutes:
        at = [] if httproute.terminating else conditions.at(httproute, spoken)
        words = [(parent, conditions.of_httproute(httproute, gateway, found)) for parent, gateway in at]
        kept = conditions.kept(httproute, known.gateways, class_name)
        yield from _due(HTTPROUTES, status.of_httproute(httproute, words, kept, now), own)


T = TypeVar("T")


def _due(resource: Resource[T], body: status.Body | None, by: str) -> Iterator[Write]:
    if body:
        yield Write(f"{resource.path(body['metadata'].get('namespace'))}/{body['metadata']['name']}", body, by)


def _tokens(gateways: Iterable[Gateway], found: Found) -> Iterator[str]:
    decisions = (found.get(conditions.rayservice_of(each)) for each in gateways)
    return (replicas.token(each) for each in decisions if isinstance(each, Route))


def _lacking(ready: frozenset[str], entries: replicas.Entries, now: float, route: Route) -> str:
    return replicas.lacking(replicas.token(route), ready, entries, now)


def _named(body: status.Body) -> str:
    return "/".join(filter(None, (body["metadata"].get("namespace"), body["metadata"]["name"])))


def _said(body: status.Body) -> str:
    """Return the conditions in one line: those that are not met say why."""
    spoken: dict[str, Any] = body.get("status", {})
    found = [
        *spoken.get("conditions", ()),
        *(each for parent in spoken.get("parents", ()) for each in parent["conditions"]),
    ]
    lines = (
        f"{each['type']}={each['status']}" + (f" ({each['message']})" if each["status"] == "False" else "")
        for each in found
    )
    return ", ".join(lines) or "nothing any more"
