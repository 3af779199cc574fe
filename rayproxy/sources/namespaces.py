"""The labels of namespaces, for a name policy that goes by them: reflected while one does, and at no other time.

Until then nothing is asked, so that no permission is needed: namespaces are nobody's namespace's own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

from rayproxy.kinds.grants import Labels
from rayproxy.kube.api import ApiError, ApiServer
from rayproxy.objects import labels_of
from rayproxy.sources.base import UnconfirmedError
from rayproxy.sources.reflector import PROBLEMS, Listed, Observer, Reflector, ReflectorConfig, SyncState

RESOURCE, PATH = "namespaces", "/api/v1/namespaces"
MAX_LABELS = 200  # of a namespace: the API server bounds each, and not how many; tools of today write some 20


def read_labels(obj: object) -> Labels | None:
    """Return a namespace's labels, None where they are too many: half of them would match what all of them do not."""
    labels = labels_of(obj)
    return labels if len(labels) <= MAX_LABELS else None


class NamespaceSource:
    """What is known of the labels of namespaces."""

    timing = ReflectorConfig()

    def __init__(
        self, api: ApiServer, told: tuple[Callable[[], None], Observer], forget: Callable[[str], None] = lambda _: None
    ) -> None:
        self._api = api
        self._told = told
        self._forget = forget  # called when they are needed no longer: nobody is to wait for another answer
        self._reflector: Reflector[Labels | None] | None = None  # there from when it is needed on until it has ended
        self._needed = threading.Event()
        self._lock = threading.Lock()  # for the two above together
        self._stopped = False

    @property
    def threads(self) -> list[tuple[str, Callable[[], None]]]:
        """Return a name and a blocking function for the thread that it needs."""
        return [(f"reflector-{RESOURCE}", self.run)]

    def need(self, *, needed: bool) -> None:
        """Say whether labels are needed from now on."""
        with self._lock:
            if self._stopped or needed == self._needed.is_set():
                return
            if needed:
                self._reflector = self._reflector or self._new()
                self._reflector.resume()  # it may not have seen yet that it was stopped
                self._needed.set()
            else:
                self._needed.clear()
                self._stop()

    def stop(self) -> None:
        """Let the thread end at its next turn."""
        with self._lock:
            self._stopped = True
            self._needed.set()
            self._stop()

    def run(self) -> None:
        """Reflect while labels are needed, until stopped."""
        while not self._stopped:
            self._needed.wait()
            if reflector := self._reflector:
                reflector.run()
                self._let_go()

    def known(self) -> Mapping[str, Labels | None] | None:
        """Return {namespace: its labels}, None before the first whole list; after a failure they stay as they were."""
        reflector = self._reflector
        items = reflector.items() if reflector else None
        return None if items is None else {key.name: labels for key, labels in items.items()}

    @property
    def words(self) -> str:
        """Return how they can be read at the moment."""
        reflector = self._reflector
        return f"{PATH}: {reflector.condition if reflector else SyncState.UNSYNCED}"

    @property
    def problems(self) -> tuple[str, ...]:
        """Return what is wrong with what is known."""
        return tuple(self._problems())

    def _problems(self) -> Iterator[str]:
        reflector = self._reflector
        if reflector is None or (items := reflector.items()) is None:
            return
        yield from reflector.problems
        if reflector.condition != SyncState.SYNCED:
            yield f"{self.words}; the labels of namespaces that are known go on being used"
        for key in [key for key, labels in items.items() if labels is None][:PROBLEMS]:
            yield f"{RESOURCE}: {key.name} has more than {MAX_LABELS} labels, so that no namespaceSelector matches it"

    def look(self) -> None:
        """List them now, where they are needed; raise UnconfirmedError."""
        try:
            if reflector := self._reflector:
                reflector.refresh()
        except ApiError as error:
            raise UnconfirmedError(str(error)) from error

    def _new(self) -> Reflector[Labels | None]:
        return Reflector(self._api, Listed(RESOURCE, PATH, {}, read_labels), *self._told, self.timing)

    def _stop(self) -> None:
        if self._reflector:
            self._reflector.stop()

    def _let_go(self) -> None:
        """Forget what is known unless it is needed again meanwhile."""
        with self._lock:
            if not self._needed.is_set():
                self._reflector = None
                self._forget(RESOURCE)
