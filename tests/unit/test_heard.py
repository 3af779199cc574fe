"""What the table of `make test-cluster` says of calls."""

from __future__ import annotations

import gc
import socket
import warnings
from contextlib import closing, nullcontext
from pathlib import Path

import pytest

from tests.cluster.table import Table
from tests.cluster.witness import Said
from tests.cluster.world import World
from tests.support.apiserver import Cluster
from tests.support.callers import ANSWERED, CUT, WHOLE, Call, Figures, Heard, figures
from tests.support.cluster import Running
from tests.support.http import request
from tests.support.plain import Plain
from tests.support.upstream import Upstream
from tests.support.waiting import until


def test_a_gap_is_the_longest_time_without_an_answer_also_before_the_first_and_after_the_last():
    answered = [Call(time, ANSWERED) for time in (1.0, 4.0, 4.5)]
    assert figures(0.0, answered, [], []).gap == 3.0
    assert figures(-4.0, answered, [], []).gap == 5.0
    assert figures(0.0, [*answered, Call(9.0, "502")], [], []).gap == 4.5


def test_what_is_not_answered_failed_and_what_had_begun_and_did_not_end_was_cut():
    calls = [Call(1.0, ANSWERED), Call(2.0, "502"), Call(3.0, "ConnectionRefusedError()")]
    streams = [Call(1.0, WHOLE), Call(2.0, CUT), Call(3.0, "502")]
    sockets = [Call(1.0, "503"), Call(2.0, CUT), Call(3.0, CUT), Call(4.0, WHOLE)]
    seen = figures(0.5, calls, streams, sockets)
    assert seen == Figures(calls=3, failed=2, gap=2.0, streams=3, cut=1, broken=2)


def test_the_last_words_of_each_kind_of_failure_are_kept():
    heard = Heard(calls=[Call(1.0, "503", "no"), Call(2.0, "503", "not yet"), Call(3.0, ANSWERED)])
    assert heard.words == {"503": "not yet"}


def test_a_row_has_what_callers_of_each_heard_also_where_the_scenario_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr("tests.cluster.table.listening", lambda _: nullcontext(Said(["ready 1/1"])))
    table = Table()
    with closing(Upstream()) as proxy, closing(Upstream()) as behind:
        script = Plain(tmp_path, behind.port)
        world = World(Running(Cluster(""), tmp_path), "ns", ("127.0.0.1", proxy.port), script=script)
        with pytest.raises(RuntimeError, match="it went wrong"):
            _goes_wrong(table, world, behind)
    [own], [beside] = table.rows, table.of_the_script
    assert own.startswith("| tried | ")
    assert " ready 1/1 |" in own
    assert beside.endswith("| 2 |")
    assert str(table).splitlines()[-1] == beside


def test_a_call_that_is_never_answered_leaves_no_socket_open():
    with socket.create_server(("127.0.0.1", 0)) as silent, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(TimeoutError) as failure:
            request(silent.getsockname(), "/", timeout=0.05)
        failure.value.__context__ = TimeoutError(failure)  # a circle, as pytest makes of one that fails a test
        del failure
        gc.collect()
    assert not caught


def _goes_wrong(table: Table, world: World, behind: Upstream) -> None:
    with table.calling("tried", world) as heard:
        (world.running.kubeconfig / "reloads").write_text("1\n1\n")
        until("callers are answered", lambda: heard.outcomes[ANSWERED] and behind.seen)
        raise RuntimeError("it went wrong")
