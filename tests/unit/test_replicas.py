"""Any sequence of objects, times and replaced replicas: all replicas give a name to whom it belongs by the rules."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from rayproxy.kinds import settle
from rayproxy.kinds.backend import Policy
from rayproxy.kinds.claims import Name
from rayproxy.kinds.grants import Grant, Grants, pattern
from rayproxy.kinds.names import holders
from rayproxy.ledger.file import FileStore
from rayproxy.ledger.ledger import Ledger
from rayproxy.model import Decision, Rejection, Route, Snapshot
from tests.support.deciding import EVERYTHING
from tests.support.examples import times
from tests.support.manifests import rayservice, service, snapshot

KEEP = 100
NAMESPACES = st.sampled_from(["a", "b", "c"])
STATES = st.sampled_from(["routed", "bare", "headless"])
YEARS = st.sampled_from(["2023", "2024"])


class Replica:
    """Look at the objects as a daemon does."""

    def __init__(self, folder: Path, grants: Grants = EVERYTHING) -> None:
        self.folder = folder
        self.grants = grants
        self.live: dict[Name, str] = {}
        self.decisions: dict[str, Decision] = {}
        self.restart()

    def restart(self) -> None:
        """Forget all but what is live, which is on disk."""
        self.ledger = Ledger(FileStore(self.folder), KEEP, lambda: None)
        self.ledger.look()

    def look(self, now: Snapshot) -> None:
        settled = settle(now, Policy(), self.ledger.held(self.live), self.grants)
        self.ledger.note(settled)
        self.live = holders(decision for decision in settled.decisions if isinstance(decision, Route))
        self.decisions = {decision.ref.namespace: decision for decision in settled.decisions}

    def owner(self) -> str | None:
        """Return the namespace whose object has the name."""
        having = [namespace for namespace, each in self.decisions.items() if not isinstance(each, Rejection)]
        assert len(having) <= 1
        return having[0] if having else None


class Replicas(RuleBasedStateMachine):
    """Hold two replicas, and a model of who has the name."""

    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory()
        self.now = 1000
        self.objects: dict[str, tuple[str, str]] = {}  # namespace -> year and state
        self.replicas = [Replica(Path(self.temporary.name)) for _ in range(2)]
        self.replaced = False
        self.owner: str | None = None  # who had a route last
        self.gone: int | None = None

    @rule(namespace=NAMESPACES, year=YEARS, state=STATES)
    def put(self, namespace: str, year: str, state: str) -> None:
        self.objects[namespace] = (self.objects.get(namespace, (year,))[0], state)

    @precondition(lambda self: self.objects)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        del self.objects[data.draw(st.sampled_from(sorted(self.objects)))]

    @rule(seconds=st.sampled_from([1, KEEP - 1, KEEP]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(which=st.integers(0, 1))
    def restart(self, which: int) -> None:
        self.replicas[which].restart()

    @precondition(lambda self: not self.replaced)
    @rule(which=st.integers(0, 1))
    def replace(self, which: int) -> None:
        """Replace a pod; never both before what they know was written."""
        self.replicas[which] = Replica(Path(self.temporary.name))
        self.replaced = True

    @rule(order=st.permutations([0, 1]))
    def all_look(self, order: list[int]) -> None:
        """Let them look, write and read until they are at one, and let the model follow."""
        with patch("time.time", lambda: self.now):
            for _ in range(3):
                for which in order:
                    self.replicas[which].look(self._snapshot())
                    self.replicas[which].ledger.look()
        self._follow()
        self.replaced = False
        for replica in self.replicas:
            assert replica.owner() == self._expected(), (self.objects, self.owner, self.gone)

    @invariant()
    def little_is_written(self) -> None:
        path = Path(self.temporary.name) / "names.json"
        assert not path.exists() or path.read_text().count("rayservice.") <= 1

    def teardown(self) -> None:
        self.temporary.cleanup()

    def _snapshot(self) -> Snapshot:
        found = []
        for namespace, (year, state) in self.objects.items():
            ray = rayservice(namespace=namespace, creationTimestamp=f"{year}-01-01T00:00:00Z")
            more = {"clusterIP": "None"} if state == "headless" else {}
            found += [ray] if state == "bare" else [ray, service(ray, **more)]
        return snapshot(*found)

    def _follow(self) -> None:
        if self.owner in self.objects:
            self.gone = None
        elif self.owner:
            self.gone = self.now if self.gone is None else self.gone
            if self.now >= self.gone + KEEP:
                self.owner = self.gone = None
        if self.owner is None:
            self.owner = min(self._in_state("routed"), default=(None, None))[1]

    def _in_state(self, state: str) -> list[tuple[str, str]]:
        return [(year, namespace) for namespace, (year, found) in self.objects.items() if found == state]

    def _expected(self) -> str | None:
        """Return whose object is not rejected."""
        if self.owner is None:
            return min(self._in_state("bare"), default=(None, None))[1]
        return self.owner if self.owner in self.objects and self.objects[self.owner][1] != "headless" else None


@pytest.mark.fault(82)
@pytest.mark.timeout(times(300))
def test_replicas_are_at_one_about_whose_a_name_is_whatever_happens():
    run_state_machine_as_test(
        Replicas, settings=settings(max_examples=times(60), stateful_step_count=30, deadline=None)
    )


@pytest.mark.fault(114)
def test_replicas_with_different_policies_do_not_write_against_each_other(tmp_path: Path):
    ray = rayservice(namespace="mine")
    replicas = Replica(tmp_path), Replica(tmp_path, Grants(pattern([Grant(("others",), ("*",))])))
    replicas[0].look(snapshot(ray, service(ray)))
    written = set()
    for _ in range(4):
        for replica in replicas:
            replica.look(snapshot(ray))
            replica.ledger.look()
            written.add((tmp_path / "names.json").read_text())
    assert replicas[0].owner() == "mine"
    assert replicas[1].owner() is None
    assert written == {'{\n "rayservice.chat": "mine"\n}\n'}
