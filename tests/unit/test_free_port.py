"""The tests' own ports: what a test was given is not a neighbour's when it begins to listen."""

from __future__ import annotations

import socket

import pytest

from tests.support import http


def test_a_port_that_was_found_is_nobody_elses_until_somebody_listens_there():
    port = http.free_port()
    with socket.socket() as neighbour, pytest.raises(OSError, match="in use"):
        neighbour.bind(("127.0.0.1", port))  # the kernel gives no port that it would refuse
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)
    with socket.create_server(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port), 5):
        pass


def test_no_more_ports_are_held_than_a_worker_has_descriptors_for():
    for _ in range(http.HELD + 1):
        http.free_port()
    assert len(http._held) == http.HELD
