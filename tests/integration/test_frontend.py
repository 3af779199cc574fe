"""What the front end of examples/ passes on to the proxy."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.frontend import frontend
from tests.support.http import request
from tests.support.upstream import Upstream


@pytest.fixture
def site(folder: Path, upstream: Upstream) -> Iterator[tuple[str, int]]:
    """Return the front end's address; an upstream that tells what it saw is in the proxy's place."""
    with frontend(folder, upstream.port) as port:
        yield "127.0.0.1", port


@pytest.mark.parametrize("path", ["chat/a%2Fb?c=%20d", "chat/%E4%BD%A0", "chat//x/../y", "chat"])
def test_a_path_is_passed_on_byte_for_byte(site: tuple[str, int], path: str):
    answer = request(site, f"/apis/rayservice/{path}")
    assert answer.json["line"] == f"GET /apis/rayservice/{path} HTTP/1.1"


def test_a_stranger_cannot_switch_off_rays_time_limit_nor_its_notice_of_a_disconnect(site: tuple[str, int]):
    switches = {"x-request-timeout-seconds": "999999", "x-request-disconnect-disabled": "?1"}
    answer = request(site, "/apis/rayservice/chat/", headers={**switches, "x-other": "kept"})
    assert not switches.keys() & answer.json["headers"].keys()
    assert answer.json["headers"]["x-other"] == "kept"


def test_a_piece_of_a_body_is_passed_on_before_the_next_one_comes(folder: Path):
    with socket.create_server(("127.0.0.1", 0)) as proxy, frontend(folder, proxy.getsockname()[1]) as port:
        proxy.settimeout(10)
        with socket.create_connection(("127.0.0.1", port), 10) as caller:
            head = b"POST /apis/rayservice/chat/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
            caller.sendall(head + b"3\r\none\r\n")
            with proxy.accept()[0] as passed_on:
                received = b""
                while not received.endswith(b"3\r\none\r\n"):
                    received += passed_on.recv(4096)
