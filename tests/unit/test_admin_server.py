"""The admin server's bound on connections."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from rayproxy.admin.server import MOST, application, serve
from rayproxy.listen import Listen
from tests.support.http import free_port


@pytest.fixture
def hanging() -> Iterator[int]:
    """Return the port of a server whose answers do not come before the test's end."""
    end, port = threading.Event(), free_port()
    app = application(CollectorRegistry(), lambda: None if end.wait(60) else "", lambda: None, str)
    server = serve(Listen("127.0.0.1", port), app)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield port
    end.set()
    server.shutdown()
    thread.join()
    server.server_close()


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
