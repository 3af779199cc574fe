"""Play what KubeRay's operator and the cluster did, as it was recorded, and tell what the daemon says of it.

Recorded in tests/recorded/behind/ while KubeRay 1.7.0 ran on Kubernetes 1.36.2 with Ray 2.60.0 in real pods: an object
a line as a watch told of it, `t` seconds after the start; what was there before comes first, owners before what they
own. Of each object only what is read here was kept.
"""

from __future__ import annotations

import copy
import datetime as dt
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from rayproxy.kinds import KINDS
from rayproxy.kinds.backend import Policy
from rayproxy.kinds.slices import behind, count
from rayproxy.model import Decision, Key, Readiness, Resource, Route, Snapshot
from rayproxy.objects import condition, read_key, rfc3339
from rayproxy.reconcile.plan import Changes
from rayproxy.reconcile.reconciler import Outcome
from rayproxy.report import behind as looks
from rayproxy.report import reporter, status
from rayproxy.report.events import Event
from rayproxy.report.metrics import Metrics
from tests.support.apiserver import ApiProblem
from tests.support.deciding import decide
from tests.support.kuberay import CLUSTER, KubeRay

TESTS = Path(__file__).parents[1]
RECORDED = sorted((TESTS / "recorded" / "behind").glob("*.jsonl"))
AFTERWARDS = 15.0  # s
TICK = 0.25  # s, the loop's

KIND = KINDS["rayservice"]
RESOURCES: dict[str, Resource[Any] | None] = {
    "rayservices": KIND.routed,
    "services": KIND.services,
    "endpointslices": KIND.endpoints,
}


def golden(recording: Path) -> Path:
    """Return where the words about a recording are kept."""
    return TESTS / "golden" / "behind" / f"{recording.stem}.txt"


def lines(recording: Path) -> list[dict[str, Any]]:
    """Return the recording, line by line."""
    return [json.loads(line) for line in recording.read_text(encoding="utf-8").splitlines()]


def told(recording: Path) -> str:
    """Return what `rayproxy routes` and the Events say while a recording is played, each with its second."""
    recorded = lines(recording)
    began = _began(recorded)
    with tempfile.TemporaryDirectory() as folder, capture_logs():
        world = World(Path(folder) / "status.json")
        clock = SimpleNamespace(monotonic=lambda: world.now, time=lambda: began + world.now)
        now = lambda: rfc3339(clock.time())  # noqa: E731 - one of three
        with (
            patch.object(looks, "time", clock),
            patch.object(reporter, "time", clock),
            patch.object(reporter, "_now", now),
        ):
            return "".join(f"{at:6.2f}  {words}\n" for at, words in world.play(recorded))


def _began(recorded: list[dict[str, Any]]) -> float:
    """Return when it began, by the time that KubeRay wrote into its condition last."""
    written = [(condition(line["object"], "Ready").get("lastTransitionTime", ""), -line["t"]) for line in recorded]
    last, seconds = max(written)
    return dt.datetime.fromisoformat(str(last)).timestamp() + int(seconds)


class World:
    """Hold the objects as they are at a moment, and the part of a daemon that reports on them."""

    def __init__(self, file: Path) -> None:
        self.now = 0.0
        self._file = file
        self._events: list[Event] = []
        self._objects: dict[Resource[Any], dict[Key, Any]] = defaultdict(dict)
        metrics = Metrics(CollectorRegistry())
        self._reporter = reporter.Reporter(metrics, file, self._events.append, 600.0, self._look)

    def play(self, recorded: list[dict[str, Any]]) -> Iterator[tuple[float, str]]:
        """Yield what is new, and when."""
        row, end = "", recorded[-1]["t"] + AFTERWARDS
        while self.now < end:
            while recorded and recorded[0]["t"] <= self.now:
                self._take(recorded.pop(0))
                self._cycle()
            self._reporter.nginx(2, 0)
            if row != (row := self._row()):
                yield self.now, row
            yield from ((self.now, f"{event.type} {event.reason}: {event.message}") for event in self._events)
            self._events.clear()
            self.now += TICK

    def after(self, line: dict[str, Any]) -> dict[str, Readiness | None]:
        """Take a line, and return who answers behind each route then."""
        self._take(line)
        return {route.ref.name: self._look(route) for route in self._decisions() if isinstance(route, Route)}

    def _take(self, line: dict[str, Any]) -> None:
        resource, obj = RESOURCES[line["resource"]], line["object"]
        assert resource
        assert line["type"] in ("ADDED", "MODIFIED")
        self._objects[resource][read_key(obj)] = resource.read(obj)

    def _cycle(self) -> None:
        self._reporter.done(Outcome(self._decisions(), (), "r", Changes(), reloaded=False), 0.0, None)

    def _decisions(self) -> tuple[Decision, ...]:
        return tuple(
            decide(Snapshot({resource: tuple(found.values()) for resource, found in self._objects.items()}), Policy())
        )

    def _look(self, route: Route) -> Readiness | None:
        assert KIND.endpoints
        counted = behind(route, count(self._objects[KIND.endpoints].values()))
        return counted and Readiness(*counted, KIND.words(self._objects[KIND.routed][route.ref.key]))

    def _row(self) -> str:
        table = status.table(status.read(self._file).values()) if self._file.exists() else ""
        return " ".join(table.partition("\n")[2].split())


class Replay:
    """Do in a real API server what was recorded: its own uids, namespace and addresses stand for the recorded ones."""

    def __init__(self, kuberay: KubeRay) -> None:
        self._cluster = kuberay.cluster
        self._namespace = kuberay.namespace
        self._uids: dict[str, str] = {}

    def do(self, line: dict[str, Any]) -> None:
        """Make or change one object."""
        obj = copy.deepcopy(line["object"])
        recorded, path = obj["metadata"].pop("uid", ""), self._path(obj)
        obj["metadata"]["namespace"] = self._namespace
        for owner in obj["metadata"].get("ownerReferences", ()):
            owner["uid"] = self._uids.get(owner["uid"], owner["uid"])  # of a kind without a CRD here
        status = self._prepared(obj)
        made = self._put(path, obj)
        self._uids[recorded] = made["metadata"]["uid"]
        if status is not None:
            self._cluster.call("PUT", f"{path}/{obj['metadata']['name']}/status", made | {"status": status})

    def _path(self, obj: dict[str, Any]) -> str:
        group = obj["apiVersion"]
        root = f"/apis/{group}" if "/" in group else f"/api/{group}"
        return f"{root}/namespaces/{self._namespace}/{obj['kind'].lower()}s"

    def _prepared(self, obj: dict[str, Any]) -> Any:
        """Make an object one that can be created, and return its status."""
        if obj["kind"] == "RayService":
            obj["spec"]["rayClusterConfig"] = CLUSTER
        if obj["kind"] == "Service":
            del obj["spec"]["clusterIP"]
        return obj.pop("status", None)

    def _put(self, path: str, obj: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._cluster.call("POST", path, obj)
        except ApiProblem as problem:
            if problem.status != 409:
                raise
        one = f"{path}/{obj['metadata']['name']}"
        return self._cluster.call("PATCH", one, obj, "application/merge-patch+json")
