"""What the front end of examples/ passes on to the proxy."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayproxy.nginx.render import NginxConf, render
from rayproxy.nginx.templates import prefix
from rayproxy.settings import NginxSettings
from tests.support.daemon import Daemon
from tests.support.frontend import FRONTEND, frontend
from tests.support.http import request
from tests.support.manifests import Manifests
from tests.support.raw import OK, RawUpstream, exchange
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


@pytest.fixture
def seen(folder: Path) -> Iterator[tuple[int, RawUpstream]]:
    """Return the front end's port, and what stands in the proxy's place and keeps every byte."""
    upstream = RawUpstream()
    with frontend(folder, upstream.port) as port:
        yield port, upstream
    upstream.close()


def call(port: int, *fields: str) -> bytes:
    lines = ["POST /apis/rayservice/chat/x HTTP/1.1", "Host: shop.example", "Content-Length: 0", *fields, "", ""]
    return exchange(port, "\r\n".join(lines).encode())


@pytest.mark.parametrize("name", ["serve_multiplexed_model_id", "x.y", "!#$%&'*+-.^_`|~"])
def test_a_field_of_any_name_is_passed_on(seen: tuple[int, RawUpstream], name: str):
    port, upstream = seen
    call(port, f"{name}: a", "Connection: close")
    assert (name, "a") in upstream.fields


def test_a_head_of_64_kb_is_passed_on_both_ways(seen: tuple[int, RawUpstream]):
    port, upstream = seen
    large = "x" * 64_000
    upstream.answer = OK.replace(b"\r\n\r\n", f"\r\nX-Large: {large}\r\n\r\n".encode())
    assert large.encode() in call(port, f"X-Large: {large}", "Connection: close")
    assert ("X-Large", large) in upstream.fields


@pytest.mark.parametrize("connection", ["Upgrade, HTTP2-Settings, close", "close"])
def test_only_a_websocket_is_an_upgrade_and_fields_of_the_connection_end(seen, connection: str):
    port, upstream = seen
    hop = ["HTTP2-Settings: AAMA", "Keep-Alive: timeout=5", "Proxy-Connection: close", "TE: trailers", "Trailer: X"]
    call(port, "Upgrade: h2c", f"Connection: {connection}", *hop)
    names = {name.lower() for name, _ in upstream.fields}
    assert names.isdisjoint(line.split(":")[0].lower() for line in [*hop, "Upgrade:"])
    assert upstream.got("Connection") == ["close"]
    call(port, "Upgrade: websocket", "Connection: close")
    assert (upstream.got("Upgrade"), upstream.got("Connection")) == ([], ["close"])
    call(port, "Upgrade: h2c, websocket", "Connection: upgrade, close")
    assert (upstream.got("Upgrade"), upstream.got("Connection")) == (["websocket"], ["upgrade"])


def test_an_upgrade_in_http_1_0_means_nothing(seen: tuple[int, RawUpstream]):
    port, upstream = seen
    exchange(port, b"GET /apis/rayservice/chat/x HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert (upstream.got("Upgrade"), upstream.got("Connection")) == ([], ["close"])


def test_a_stranger_says_nothing_about_the_front_ends_address(seen: tuple[int, RawUpstream]):
    port, upstream = seen
    call(port, "X-Forwarded-Host: evil", "X-Forwarded-Proto: gopher", "X-Forwarded-Prefix: /evil", "Connection: close")
    assert upstream.got("X-Forwarded-Host") == ["shop.example"]
    assert upstream.got("X-Forwarded-Proto") == ["http"]
    assert upstream.got("X-Forwarded-Prefix") == []


@pytest.mark.fault(88)
@pytest.mark.parametrize("spelled", ["X_Forwarded_{}", "X-Forwarded_{}", "x_forwarded-{}"])
def test_nor_does_one_who_writes_underscores_which_the_proxys_nginx_would_read_as_hyphens(seen, spelled: str):
    port, upstream = seen
    call(port, *(f"{spelled.format(name)}: /evil" for name in ("Host", "Proto", "Prefix")), "Connection: close")
    assert {value for name, value in upstream.fields if "forwarded" in name.lower()} == {
        "127.0.0.1", "shop.example", "http",
    }  # fmt: skip


def test_what_a_model_says_to_the_hops_before_is_passed_on_and_its_orders_are_not(seen: tuple[int, RawUpstream]):
    port, upstream = seen
    told = (
        b"\r\nX-Accel-Buffering: no\r\nServer: uvicorn\r\nLocation: http://shop.example/apis/rayservice/chat/a\r\n\r\n"
    )
    upstream.answer = OK.replace(b"\r\n\r\n", b"\r\nX-Accel-Redirect: /index.html" + told)
    answer = call(port, "Connection: close")
    assert answer.endswith(b"\r\n\r\n{}")
    assert b"X-Accel-Redirect" not in answer
    for line in told.strip().split(b"\r\n"):
        assert b"\r\n" + line + b"\r\n" in answer


def test_http_1_0_without_a_host_asks_the_proxy_with_one(seen: tuple[int, RawUpstream]):
    port, upstream = seen
    exchange(port, b"GET /apis/rayservice/chat/x HTTP/1.0\r\n\r\n")
    assert upstream.line == "GET /apis/rayservice/chat/x HTTP/1.1"
    assert upstream.got("Host") == ["rayproxy"]


@pytest.mark.fault(147)
def test_a_call_that_ends_without_an_answer_is_made_once_and_takes_the_front_end_from_nobody(folder: Path):
    """The name of the proxy's Service has an address of each family."""
    upstream = RawUpstream(answer=b"")
    with frontend(folder, upstream.port, addresses=2) as port:
        get = b"GET /apis/rayservice/chat/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        assert exchange(port, get).startswith(b"HTTP/1.1 502 ")
        assert len(upstream.heads) == 1
        exchange(port, get)  # so that each address has had one
        upstream.answer = OK
        assert exchange(port, get).startswith(b"HTTP/1.1 200 ")
    upstream.close()


@pytest.mark.parametrize("framing", ["Content-Length: 30000000", "Transfer-Encoding: chunked"])
def test_a_body_that_is_too_large_is_told_in_the_proxys_words_however_large(
    daemon: Daemon, manifests: Manifests, framing: str
):
    manifests.routed("chat")
    body = b"x" * 30_000_000 if "Length" in framing else b"1c9c380\r\n" + b"x" * 30_000_000 + b"\r\n0\r\n\r\n"
    with frontend(daemon.folder, daemon.start().port) as port:
        head = f"POST /apis/rayservice/chat/x HTTP/1.1\r\nHost: h\r\n{framing}\r\nConnection: close\r\n\r\n"
        answer = exchange(port, head.encode() + body)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"type":"request_too_large"' in answer


@pytest.mark.parametrize("directive", ["proxy_read_timeout", "proxy_send_timeout"])
def test_the_proxy_gives_up_a_silent_model_before_the_front_end_gives_up_the_proxy(directive: str):
    (seconds,) = re.findall(rf"\b{directive} (\d+)s;", (FRONTEND / "rayservice.conf").read_text())
    assert int(seconds) > NginxSettings().read_timeout


def test_a_caller_that_does_not_read_has_as_long_at_the_front_end_as_at_the_proxy(folder: Path):
    proxys = render([], prefix(), NginxConf(NginxSettings(), ("127.0.0.1:8080",), str(folder)))["nginx.conf"].text
    (said,) = re.findall(r"^ +send_timeout \d+s;", proxys, re.MULTILINE)
    assert re.findall(r"^ +send_timeout \d+s;", (FRONTEND / "rayservice.conf").read_text(), re.MULTILINE) == [said]
