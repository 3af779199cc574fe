"""The admin server's bound on connections, and what it tells of those that fail."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge
from structlog.testing import capture_logs

from rayproxy.admin import server as module
from rayproxy.admin.server import MOST, Check, application, serve
from rayproxy.listen import Listen
from tests.support.http import free_port, request
from tests.support.waiting import until


@contextmanager
def serving(registry: CollectorRegistry, healthy: Check = lambda: None) -> Iterator[Any]:
    server: Any = serve(Listen("127.0.0.1", free_port()), application(registry, healthy, lambda: None, str))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def hanging() -> Iterator[int]:
    """Return the port of a server whose answers do not come before the test's end."""
    end = threading.Event()
    with serving(CollectorRegistry(), lambda: None if end.wait(60) else "") as server:
        yield server.server_port
        end.set()


def test_each_connection_too_many_ends_another_one_the_oldest_first(hanging: int):
    """Their threads are still busy: what was cut must not be counted, nor be cut a second time."""
    clients = []
    for _ in range(MOST + 3):
        client = socket.create_connection(("127.0.0.1", hanging), 5)
        client.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        clients.append(client)
    for client in clients[:3]:
        assert client.recv(1) == b""
    clients[3].settimeout(0.2)
    with pytest.raises(TimeoutError):
        clients[3].recv(1)
    for client in clients:
        client.close()


@pytest.mark.fault(65)
def test_one_that_takes_its_answer_slowly_is_cut_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """What is written to standard error past the log is no JSON, and waits for as long as nobody reads it."""
    monkeypatch.setattr(module._Quiet, "timeout", 0.2)
    registry = CollectorRegistry()
    large = Gauge("large", "more than is on its way at a time", ["route"], registry=registry)
    for number in range(5000):
        large.labels(f"rayservice/{'x' * 1000}/{number}").set(1)
    with serving(registry) as server, capture_logs() as lines, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.server_port))
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        until("it is taken", lambda: server._since)
        until("it has ended", lambda: not server._since)
    assert lines == []
    assert capfd.readouterr().err == ""


def test_a_defect_is_told_by_the_log_and_the_caller_has_an_answer(capfd: pytest.CaptureFixture[str]):
    def broken() -> str | None:
        raise RuntimeError("a defect")

    with serving(CollectorRegistry(), broken) as server, capture_logs() as lines:
        assert request(("127.0.0.1", server.server_port), "/healthz").status == 500
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("the admin server could not answer", "error")
    assert str(line["exc_info"]) == "a defect"
    assert capfd.readouterr().err == ""
