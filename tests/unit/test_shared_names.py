"""Where names are held while the ConfigMap of replicas may be read and not written, or is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rayproxy.kinds import settle
from rayproxy.kinds.backend import Policy
from rayproxy.kinds.claims import Claim, Name
from rayproxy.kinds.names import holders
from rayproxy.kube.api import ApiError
from rayproxy.ledger.base import StoreError
from rayproxy.ledger.configmap import ConfigMapStore, SharedStore
from rayproxy.ledger.entries import Change
from rayproxy.ledger.file import FileStore
from rayproxy.ledger.ledger import Ledger
from rayproxy.model import Rejection, Route, Snapshot
from tests.support.deciding import EVERYTHING
from tests.support.manifests import rayservice, service, snapshot

CHAT, OTHER = ("rayservice", "chat"), ("rayservice", "other")
START, KEEP, LATEST = 1_000_000, 600, 2_000_000_000
MINE = rayservice(namespace="mine", creationTimestamp="2025-01-01T00:00:00Z")
ELDER = rayservice(namespace="elder", creationTimestamp="2024-01-01T00:00:00Z")
BOTH, LEFT = snapshot(MINE, service(MINE), ELDER, service(ELDER)), snapshot(ELDER, service(ELDER))


class Api:
    """Answer for one ConfigMap, as the API server does; what is denied is 403."""

    def __init__(self, **data: str) -> None:
        self.data: dict[str, str] | None = data
        self.denied = {"PATCH"}
        self.away = False

    def get(self, path: str) -> dict[str, Any]:
        self._look("GET")
        if self.away:
            raise ApiError("it is away")
        return {"metadata": {"resourceVersion": "1"}, "data": dict(self.data or {})}

    def send(self, method: str, path: str, body: dict[str, Any], **_: str) -> dict[str, Any]:
        self._look(method)
        merged = {**(self.data or {}), **body["data"]}
        self.data = {key: value for key, value in merged.items() if value is not None}
        return self.get(path)

    def _look(self, method: str) -> None:
        if method in self.denied:
            raise ApiError("admission webhook denied the request", 403)
        if self.data is None:
            raise ApiError("not found", 404)


class Replica:
    """Look at the objects as a daemon does."""

    def __init__(self, api: Api, folder: Path) -> None:
        self.api, self.folder = api, folder
        self.live: dict[Name, str] = {}
        self.restart()

    def restart(self) -> None:
        """Forget all but what is live, which is on disk."""
        self.ledger = Ledger(shared(self.api, self.folder), KEEP, lambda: None)
        self.ledger.look()

    def look(self, now: Snapshot) -> dict[str, str]:
        """Return what becomes of the RayService of each namespace."""
        settled = settle(now, Policy(), self.ledger.held(self.live), EVERYTHING)
        self.ledger.note(settled)
        self.live = holders(decision for decision in settled.decisions if isinstance(decision, Route))
        self.ledger.look()
        return {
            each.ref.namespace: each.reason if isinstance(each, Rejection) else type(each).__name__
            for each in settled.decisions
        }


def shared(api: Api, folder: Path, store: type[FileStore] = FileStore) -> SharedStore:
    configmap = ConfigMapStore(api, "rp", "names")  # type: ignore[arg-type]
    return SharedStore(configmap, store(folder), store(folder, "names-before.json"))


def kept(folder: Path) -> dict[str, str]:
    return json.loads((folder / "names.json").read_text(encoding="utf-8"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a clock that stands still until it is set."""
    now = [START]
    monkeypatch.setattr("time.time", lambda: now[0])
    return now


@pytest.mark.fault(153)
@pytest.mark.parametrize("restarts", [False, True])
def test_a_name_is_free_after_its_time_where_the_configmap_may_be_read_and_not_written(
    tmp_path: Path, clock: list[int], *, restarts: bool
):
    replica = Replica(Api(**{"rayservice.chat": "mine"}), tmp_path)
    assert replica.look(BOTH) == {"mine": "Route", "elder": "NameConflict"}
    for later in (0, 5, 10, 300, KEEP - 1, KEEP, KEEP + 5, 86_400):
        clock[0] = START + later
        expected = "NameHeld" if later < KEEP else "Route"
        assert replica.look(LEFT) == {"elder": expected}, later
        assert "admission webhook denied the request" in " ".join(replica.ledger.problems), later
        if restarts:
            shared(replica.api, tmp_path).update({}, LATEST)  # as `rayproxy routes --held` does
            replica.restart()


@pytest.mark.fault(153)
def test_what_was_held_for_one_replica_alone_is_written_once_that_is_allowed(tmp_path: Path):
    api = Api(**{"rayservice.chat": "mine", "rayservice.other": "mine"})
    store = shared(api, tmp_path)
    store.update({}, LATEST)
    gone = {CHAT: Change(Claim("mine"), Claim("mine", 5)), OTHER: Change(Claim("mine"), None)}
    denied = store.update(gone, LATEST)
    assert denied.claims == {CHAT: Claim("mine", 5)}
    assert denied.problems
    assert api.data == {"rayservice.chat": "mine", "rayservice.other": "mine"}
    api.denied = set()
    found = store.update({CHAT: Change(Claim("mine", 5), Claim("mine", 6))}, LATEST)
    assert (found.claims, found.problems) == ({CHAT: Claim("mine", 6)}, ())
    assert api.data == {"rayservice.chat": "mine 1970-01-01T00:00:06Z"}
    assert kept(tmp_path) == {}
    api.data = {}
    assert store.update({}, LATEST).claims == {}, "nothing is left that would be written again"


@pytest.mark.fault(153)
def test_what_another_wrote_meanwhile_stays(tmp_path: Path):
    api = Api(**{"rayservice.chat": "mine"})
    store = shared(api, tmp_path)
    store.update({}, LATEST)
    store.update({CHAT: Change(Claim("mine"), Claim("mine", 5))}, LATEST)
    api.data, api.denied = {"rayservice.chat": "other"}, set()
    assert store.update({}, LATEST).claims == {CHAT: Claim("other")}
    assert kept(tmp_path) == {}


@pytest.mark.fault(153)
@pytest.mark.parametrize("denied", [set(), {"PATCH"}])
def test_a_configmap_that_goes_and_comes_back_empty_gets_all_that_was_held(tmp_path: Path, denied: set[str]):
    api = Api(**{"rayservice.chat": "mine", "rayservice.other": "mine"})
    store = shared(api, tmp_path)
    store.update({}, LATEST)
    api.denied = denied
    store.update({CHAT: Change(Claim("mine"), Claim("mine", 5))}, LATEST)
    api.data, api.denied = None, set()
    assert store.update({}, LATEST).problems
    api.data = {}
    found = store.update({}, LATEST)
    assert (found.claims, found.problems) == ({CHAT: Claim("mine", 5), OTHER: Claim("mine")}, ())


@pytest.mark.fault(156)
def test_a_spoiled_file_beside_the_configmap_is_told_also_where_that_one_cannot_be_read(tmp_path: Path):
    (tmp_path / "names.json").write_text("")
    (tmp_path / "names-before.json").write_text("[]")
    api = Api(**{"rayservice.chat": "mine"})
    api.away = True
    with pytest.raises(StoreError, match=r"it is away; .*names\.json held no claims.*; .*names-before\.json held no"):
        shared(api, tmp_path).update({}, LATEST)
    (tmp_path / "names.json").write_text("")
    api.away = False
    for expected in (1, 0):
        found = shared(api, tmp_path).update({}, LATEST)
        assert found.claims == {CHAT: Claim("mine")}
        assert len(found.problems) == expected


class Mortal(FileStore):
    """End, as a process does, in the place of one write."""

    left = 0  # until then

    def _write(self, entries: dict[str, object]) -> None:
        Mortal.left -= 1
        if Mortal.left == 0:
            raise KeyboardInterrupt
        super()._write(entries)


@pytest.mark.fault(153)
@pytest.mark.parametrize("ends_at", range(1, 6))
def test_wherever_the_process_ends_while_names_move_none_is_lost(tmp_path: Path, ends_at: int):
    api = Api(**{"rayservice.chat": "mine", "rayservice.other": "mine"})
    Mortal.left = ends_at
    for denied in ({"PATCH"}, set()):
        api.denied = denied
        try:
            decide_on_chat(shared(api, tmp_path, Mortal))
        except KeyboardInterrupt:
            decide_on_chat(shared(api, tmp_path, Mortal))
    assert Mortal.left <= 0, "it did end"
    assert api.data == {"rayservice.chat": "mine 1970-01-01T00:00:05Z", "rayservice.other": "mine"}


def decide_on_chat(store: SharedStore) -> None:
    """Find that the object of a claim is gone, whatever was known of that before, and look once more."""
    there = store.update({}, LATEST).claims.get(CHAT)
    store.update({CHAT: Change(there, Claim("mine", 5))}, LATEST)
    assert store.update({}, LATEST).claims == {CHAT: Claim("mine", 5), OTHER: Claim("mine")}
