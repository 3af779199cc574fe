"""A reflector of the test's own, in a thread, and a diary of what it lived through."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from rayproxy.kinds.rayservice import RAYSERVICES, RayService
from rayproxy.kube.api import ApiServer, Deadlines
from rayproxy.kube.session import Login
from rayproxy.model import Key
from rayproxy.sources.kubernetes import listed
from rayproxy.sources.reflector import Reflector, ReflectorConfig
from tests.support.scripted import ScriptedApi
from tests.support.waiting import until

PATH = "/apis/ray.io/v1/rayservices"
QUICK = Deadlines(connect=5.0, silence=1.0, whole=2.0)
# Pauses a hundredth of the real ones; what a busy machine could mistake for silence or health is left long.
FAST = ReflectorConfig(
    silence=1.0, young=5.0, backoff_first=0.02, backoff_cap=0.3, healthy=30.0, retry_after_cap=1.2, doubt=0.5
)


def rayservice(name: str, **metadata: Any) -> dict[str, Any]:
    """Return a RayService as the API gives it."""
    created = {"creationTimestamp": "2026-01-01T00:00:00Z", "uid": f"uid-{name}"}
    return {"metadata": {"name": name, "namespace": "default", **created, **metadata}, "spec": {}}


def anonymous(url: str, deadlines: Deadlines = QUICK) -> ApiServer:
    """Return a client that needs no login."""
    return ApiServer(lambda: Login(url), 60.0, deadlines)


@dataclass
class Diary:
    """Note what an observer is told, and how often the loop was woken."""

    contacts: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)  # (reason, message)
    repairs: list[int] = field(default_factory=list)
    wakes: int = 0

    def contact(self, _: str) -> None:
        self.contacts += 1

    def failure(self, _: str, reason: str, message: str) -> None:
        self.failures.append((reason, message))

    def repaired(self, _: str, count: int) -> None:
        self.repairs.append(count)

    def wake(self) -> None:
        self.wakes += 1

    @property
    def reasons(self) -> list[str]:
        return [reason for reason, _ in self.failures]


class Reflection:
    """Run a reflector of RayServices against a scripted API server, or through `url` to it."""

    def __init__(
        self, api: ScriptedApi, timing: ReflectorConfig = FAST, url: str = "", deadlines: Deadlines = QUICK
    ) -> None:
        self.api = api
        self.diary = Diary()
        self.reflector: Reflector[RayService] = Reflector(
            anonymous(url or api.url, deadlines), listed(RAYSERVICES, "", None), self.diary.wake, self.diary, timing
        )
        self._thread = threading.Thread(target=self.reflector.run, daemon=True)

    def start(self) -> Reflection:
        self._thread.start()
        return self

    @property
    def names(self) -> set[str] | None:
        """Return the names of the RayServices that are known; None before the first whole list."""
        items: dict[Key, RayService] | None = self.reflector.items()
        return None if items is None else {key.name for key in items}

    def until_names(self, *names: str) -> None:
        until(f"the reflector knows {names}; failures: {self.diary.failures[-3:]}", lambda: self.names == set(names))

    def until_condition(self, condition: str) -> None:
        """Wait for the last word of a list or a failure: what is known, or what is told, comes a moment before."""
        until(f"the reflector is {condition}", lambda: self.reflector.condition == condition)

    def until_watching(self, times: int = 1) -> None:
        until("a watch was asked for", lambda: len(self.api.watch_requests) >= times)

    def until_failed(self, reason: str, times: int = 1) -> None:
        until(f"{times} failures: {reason}", lambda: self.diary.reasons.count(reason) >= times)

    def stop(self) -> None:
        """End it, and see that its thread ended by being told."""
        self.reflector.stop()
        self.api.close()
        self._thread.join(10)
        assert not self._thread.is_alive()
