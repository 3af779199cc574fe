"""Any sequence of changes and faults: once settled, what is served is the model of the objects."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.support.daemon import Daemon
from tests.support.manifests import Manifests, rayservice, service
from tests.support.processes import kill, masters, workers
from tests.support.upstream import Upstream
from tests.support.waiting import until

Id = tuple[str, str]  # namespace, name
IDS = st.tuples(st.sampled_from(["x", "y"]), st.sampled_from(["a", "b", "c", "default"]))
KINDS = st.sampled_from(["one", "two", "pending", "headless"])
YEARS = st.sampled_from(["2023", "2024"])
FAULTS = st.sampled_from(["master", "worker", "hup", "edit", "unlink", "pid file"])
ERRORS = {"pending": "rayservice_pending", "rejected": "rayservice_rejected", "": "rayservice_not_found"}


class World(RuleBasedStateMachine):
    """Hold the model: {id: (year, kind)}; the first two kinds are upstreams."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rp-"))
        self.upstreams = {name: Upstream(name=name) for name in ("one", "two")}
        self.manifests = Manifests(self.folder / "m")
        settings = {"SOURCE": "manifests", "MANIFESTS": str(self.manifests.folder), "WORKERS": "1", "RESYNC": "1"}
        settings["NAME_HOLD"] = "0"
        self.daemon = Daemon(self.folder, settings).start()
        self.model: dict[Id, tuple[str, str]] = {}
        self.owners: dict[str, Id] = {}  # who has had which name, and is still there
        self.changes = 0
        for name in ("notes.txt", "revisions/notes"):
            (self.daemon.state / name).write_text("not ours")

    @rule(which=IDS, year=YEARS, kind=KINDS)
    def put(self, which: Id, year: str, kind: str) -> None:
        self.model[which] = (year, kind)
        self._write(which)
        self.changes += 1

    @rule(which=IDS)
    def remove(self, which: Id) -> None:
        if self.model.pop(which, None):
            self.manifests.remove(which[1], which[0])
            self.changes += 1

    @rule(fault=FAULTS)
    def hurt(self, fault: str) -> None:
        state = self.daemon.state
        master = until("a master", lambda: masters(self.daemon))[0]
        if fault == "master":
            kill(master)
            until("another master", lambda: masters(self.daemon) not in ([], [master]))
        elif fault == "worker":
            for pid in workers(self.daemon):
                kill(pid)
        elif fault == "hup":
            kill(master, signal.SIGHUP)
        elif fault == "edit":
            for path in (state / "current").resolve().glob("ray-*.conf"):
                with contextlib.suppress(FileNotFoundError):  # the daemon has pruned the revision meanwhile
                    path.write_text("# edited\n")
        elif fault == "unlink":
            (state / "current").unlink()
        else:
            (state / "run/nginx.pid").write_text("1\n")
        self.changes += 1

    @rule(number=st.sampled_from([signal.SIGKILL, signal.SIGTERM]), torn=IDS)
    def restart(self, number: signal.Signals, torn: Id) -> None:
        """Restart the daemon; a manifest that cannot be read meanwhile takes no route away."""
        self.settled()
        path = self.manifests.folder / f"{torn[0]}.{torn[1]}.yaml"
        good = path.read_text() if path.exists() else None
        self.daemon.stop(number)
        if good:
            path.write_text("{")
        self.daemon.start()
        for name, (state, upstream) in self._served().items():
            assert state != "accepted" or self.daemon.answers_from(name, upstream)
        if good:
            path.write_text(good)
        self.changes = 1

    @invariant()
    def settled(self) -> None:
        if not hasattr(self, "daemon"):
            return
        until(f"the model {self.model}; the daemon's log:\n{self.daemon.tail()}", self._is_the_model, 40, 0.1)
        conf = str(self.daemon.state / "current/nginx.conf")
        until(
            "it loads", lambda: subprocess.run(["nginx", "-t", "-q", "-c", conf], check=False).returncode == 0, 5, 0.2
        )
        self.owners = {name: which for name, which in self.owners.items() if which in self.model}
        self.owners |= {which[1]: which for which, (state, _) in self._decided().items() if state == "accepted"}
        assert self.daemon.reloads <= 2 * self.changes + 2
        assert all((self.daemon.state / name).read_text() == "not ours" for name in ("notes.txt", "revisions/notes"))

    def teardown(self) -> None:
        if hasattr(self, "daemon"):
            self.daemon.clean_up()
            for upstream in self.upstreams.values():
                upstream.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, which: Id) -> None:
        year, kind = self.model[which]
        ray = rayservice(which[1], which[0], creationTimestamp=f"{year}-01-01T00:00:00Z")
        spec: dict[str, Any] = {"clusterIP": "None"} if kind == "headless" else {}
        if kind in self.upstreams:
            spec["ports"] = [{"name": "serve", "port": self.upstreams[kind].port}]
        self.manifests.write(f"{which[0]}.{which[1]}", ray, *([] if kind == "pending" else [service(ray, **spec)]))

    def _decided(self) -> dict[Id, tuple[str, str]]:
        """Return {id: (state, upstream)}, by the rules that a person would give."""
        found = {}
        for which, (_, kind) in self.model.items():
            if kind == "headless" or which != self._owner(which[1]):
                found[which] = ("rejected", "")
            else:
                found[which] = ("pending", kind) if kind == "pending" else ("accepted", kind)
        return found

    def _owner(self, name: str) -> Id:
        """Return who had the name if it is still there, else the oldest that has a backend, else the oldest."""
        if (before := self.owners.get(name)) in self.model:
            return before
        rivals = [which for which, (_, kind) in self.model.items() if which[1] == name and kind != "headless"]
        return min(rivals, key=lambda which: (self.model[which][1] == "pending", self.model[which][0], which))

    def _served(self) -> dict[str, tuple[str, str]]:
        """Return {name: (state, upstream)} of every name; "" where no RayService has it."""
        served = dict.fromkeys(("a", "b", "c", "default"), ("", ""))
        for (_, name), found in self._decided().items():
            if served[name][0] in ("", "rejected"):
                served[name] = found
        return served

    def _is_the_model(self) -> bool:
        rows = {tuple(key.split("/")): row for key, row in self.daemon.routes().items()}
        if {key: row["state"] for key, row in rows.items()} != {
            key: found[0] for key, found in self._decided().items()
        }:
            return False
        if not all(row["reason"] for row in rows.values()):
            return False
        return all(self._answers(name, *found) for name, found in self._served().items())

    def _answers(self, name: str, state: str, upstream: str) -> bool:
        if state == "accepted":
            return self.daemon.answers_from(name, upstream)
        try:
            return self.daemon.error(name) == ERRORS[state]
        except OSError:
            return False


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.fault(48)
@pytest.mark.fault(62)
def test_any_sequence_of_changes_and_faults_ends_in_the_model_of_the_objects():
    run_state_machine_as_test(
        World,
        settings=settings(
            max_examples=3, stateful_step_count=12, deadline=None, derandomize=False,
            suppress_health_check=list(HealthCheck), database=None,
            phases=[Phase.generate],  # to shrink takes minutes; a failure prints its steps as they are
        ),
    )  # fmt: skip
