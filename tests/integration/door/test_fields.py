"""A field passes as it was sent, but for those that belong to a connection, and those that the door knows better."""

from __future__ import annotations

import pytest

from tests.support.raw import OK, exchange

TCHARS = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"  # RFC 9110, 5.6.2
PLAIN = ["serve_multiplexed_model_id", "X-Custom", TCHARS, "_", "x..y", "9"]


def sent(door, *fields: tuple[str, str], name: str = "chat", line: str = "") -> bytes:
    """Send a request with these fields, byte for byte; return the answer's bytes."""
    line = line or f"POST /apis/rayservice/{name}/x HTTP/1.1"
    own = [("Host", "proxy.test"), ("Content-Length", "2")]
    if not any(field.lower() == "connection" for field, _ in fields):
        own.append(("Connection", "close"))
    head = [line, *(f"{field}: {value}" for field, value in (*own, *fields)), "", ""]
    return exchange(door.daemon.port, "\r\n".join(head).encode("latin-1") + b"{}")


@pytest.fixture(autouse=True)
def _answer(door):
    door.upstream.answer = OK


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("door", ["prefix", "regex"], indirect=True)
def test_a_field_of_any_name_that_http_has_reaches_the_model_as_it_was_sent(door, name):
    sent(door, (name, "a  \u00e4\u00ff, b"), (name, "c"))
    assert [field for field in door.upstream.fields if field[0] == name] == [(name, "a  \u00e4\u00ff, b"), (name, "c")]


@pytest.mark.parametrize("name", PLAIN)
def test_a_field_of_any_name_that_http_has_reaches_the_caller_as_it_was_sent(door, name):
    door.upstream.answer = OK.replace(b"\r\n\r\n", f"\r\n{name}: a  \u00e4, b\r\n{name}: c\r\n\r\n".encode("latin-1"))
    assert f"\r\n{name}: a  \u00e4, b\r\n{name}: c\r\n".encode("latin-1") in sent(door)


def test_what_the_model_says_of_itself_and_of_its_clock_stays(door):
    door.upstream.answer = OK.replace(
        b"\r\n\r\n", b"\r\nServer: uvicorn\r\nDate: Mon, 05 Jan 2026 00:00:00 GMT\r\nX-Pad: p\r\n\r\n"
    )
    answer = sent(door)
    for line in (b"Server: uvicorn", b"Date: Mon, 05 Jan 2026 00:00:00 GMT", b"X-Pad: p"):
        assert answer.count(b"\r\n" + line.split(b":")[0] + b":") == 1
        assert b"\r\n" + line + b"\r\n" in answer


SIZES = [60_000, 65_000]


@pytest.mark.parametrize("size", SIZES)
def test_a_head_of_64_kb_passes_both_ways_in_one_field_or_in_many(door, size):
    one = (("X-One", "x" * size),)
    many = tuple((f"X-{number}", "x" * 1000) for number in range(size // 1020))
    for fields in (one, many):
        added = "".join(f"\r\n{name}: {value}" for name, value in fields).encode()
        door.upstream.answer = OK.replace(b"\r\n\r\n", added + b"\r\n\r\n")
        answer = sent(door, *fields)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert added in answer
        assert [field for field in door.upstream.fields if field in fields] == list(fields)


def test_a_head_of_more_than_64_kb_is_431_and_reaches_no_model(door):
    before = len(door.upstream.heads)
    for fields in ([("X-One", "x" * 66_000)], [(f"X-{number}", "x" * 30_000) for number in range(5)]):
        assert sent(door, *fields).startswith(b"HTTP/1.1 431 ")
    assert len(door.upstream.heads) == before


def test_a_pipelined_request_with_a_large_head_is_answered_too(door):
    large = "x" * 40_000
    one = f"GET /apis/rayservice/chat/ HTTP/1.1\r\nHost: h\r\nX-Large: {large}\r\n\r\n"
    text = one + one.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
    assert exchange(door.daemon.port, text.encode()).count(b"HTTP/1.1 200 OK") == 2


HOP = [("HTTP2-Settings", "AAMAAABkAAQAAP__"), ("Keep-Alive", "timeout=5"), ("Proxy-Connection", "keep-alive"),
       ("TE", "trailers"), ("Trailer", "X-Sum")]  # fmt: skip


@pytest.mark.parametrize("field", HOP)
def test_a_field_of_the_connection_ends_here(door, field):
    sent(door, field, ("Connection", f"close, {field[0]}"))
    assert door.upstream.got(field[0]) == []
    assert door.upstream.got("Connection") == []


BODIES = [
    ("GET", "", ["close"]), ("HEAD", "", ["close"]), ("POST", "Content-Length: 0\r\n\r\n", ["close"]),
    ("POST", "Content-Length: 1\r\n\r\nx", []), ("GET", "Content-Length: 10\r\n\r\n0123456789", []),
    ("POST", "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", []),
    ("POST", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []),
]  # fmt: skip


@pytest.mark.parametrize(("method", "framing", "said"), BODIES)
@pytest.mark.parametrize("door", ["prefix", "regex", {"STREAM_BODIES": "chat"}], indirect=True)
def test_a_connection_is_said_to_close_where_no_body_is_on_its_way(door, method, framing, said):
    head = f"{method} /apis/rayservice/chat/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
    assert b" 200 OK\r\n" in exchange(door.daemon.port, (head + (framing or "\r\n")).encode())
    assert door.upstream.got("Connection") == said


@pytest.mark.parametrize("field", [*HOP[1:3], ("Trailer", "X-Sum"), ("Upgrade", "h2c")])
def test_fields_of_the_models_connection_and_of_trailers_that_nginx_drops_end_here(door, field):
    line = ": ".join(field).encode()
    door.upstream.answer = OK.replace(b"\r\n\r\n", b"\r\n" + line + b"\r\nConnection: upgrade, close\r\n\r\n")
    answer = sent(door)
    assert line not in answer
    assert b"\r\nConnection: close\r\n" in answer


UPGRADES = [
    ("h2c", "Upgrade, HTTP2-Settings", []), ("h2c", "upgrade", []), ("TLS/1.0", "Upgrade", []),
    ("websocket", "Upgrade", ["websocket"]), ("WebSocket", "keep-alive, upgrade", ["WebSocket"]),
    ("h2c, websocket", "Upgrade", ["websocket"]), ("websockets", "Upgrade", []), ("websocket", "close", []),
    ("websocket", "upgraded", []),
]  # fmt: skip


@pytest.mark.parametrize(("upgrade", "connection", "passed"), UPGRADES)
@pytest.mark.parametrize("door", ["prefix", "regex"], indirect=True)
def test_only_a_websocket_is_an_upgrade_that_reaches_the_model(door, upgrade, connection, passed):
    sent(door, ("Upgrade", upgrade), ("Connection", f"{connection}, close"))
    assert door.upstream.got("Upgrade") == passed
    assert door.upstream.got("Connection") == (["upgrade"] if passed else [])


@pytest.mark.parametrize("door", ["prefix", "regex"], indirect=True)
def test_http_1_0_has_no_upgrade(door):
    sent(door, ("Upgrade", "websocket"), ("Connection", "upgrade"), line="POST /apis/rayservice/chat/ HTTP/1.0")
    assert door.upstream.got("Upgrade") == []


@pytest.mark.fault(118)
def test_what_ray_serve_obeys_does_not_come_from_a_stranger(door):
    sent(door, ("x-request-timeout-seconds", "9"), ("X-Request-Disconnect-Disabled", "?1"), ("x-request-id", "kept"))
    assert door.upstream.got("x-request-timeout-seconds") == []
    assert door.upstream.got("x-request-disconnect-disabled") == []
    assert door.upstream.got("x-request-id") == ["kept"]


@pytest.mark.fault(118)
def test_a_caller_gives_a_gateway_or_sidecar_no_orders_of_how_to_treat_its_call(door):
    orders = [
        "retry-on", "retry-grpc-on", "max-retries", "retriable-status-codes", "retriable-header-names",
        "hedge-on-per-try-timeout", "upstream-rq-timeout-ms", "upstream-rq-per-try-timeout-ms",
        "upstream-rq-timeout-alt-response", "upstream-stream-duration-ms", "expected-rq-timeout-ms",
        "upstream-alt-stat-name", "force-trace", "decorator-operation", "original-dst-host",
    ]  # fmt: skip
    words = ["external-address", "internal", "ip-tags", "downstream-service-cluster", "downstream-service-node"]
    sent(door, *((f"X-Envoy-{name}", "1000") for name in [*orders, *words]))
    found = [name for name, _ in door.upstream.fields if name.lower().startswith("x-envoy")]
    assert found == [f"X-Envoy-{name}" for name in words]
    sent(door, ("X-Client-Trace-Id", "1f6c"), ("X-Request-Id", "kept"))
    assert (door.upstream.got("X-Client-Trace-Id"), door.upstream.got("X-Request-Id")) == ([], ["kept"])


def test_the_model_learns_by_which_host_scheme_and_prefix_it_was_asked(door):
    sent(door)
    assert door.upstream.got("X-Forwarded-Host") == ["proxy.test"]
    assert door.upstream.got("X-Forwarded-Proto") == ["http"]
    assert door.upstream.got("X-Forwarded-Prefix") == ["/apis/rayservice/chat"]


def test_what_the_front_end_says_stays_and_its_prefix_stands_before_ours(door):
    front = {"X-Forwarded-Host": "shop.example", "X-Forwarded-Proto": "https"}
    sent(door, *front.items(), ("X-Forwarded-Prefix", "/team-a/ui/"))
    assert {name: door.upstream.got(name) for name in front} == {name: [value] for name, value in front.items()}
    assert door.upstream.got("X-Forwarded-Prefix") == ["/team-a/ui/apis/rayservice/chat"]


@pytest.mark.fault(165)
def test_the_prefix_of_a_front_end_is_as_long_as_a_field_may_be(door):
    """A compiled expression has a stack of 32 kB: one that remembers each part finds nothing in a long text."""
    sent(door, ("X-Forwarded-Prefix", "/a" * 15_000))
    assert door.upstream.got("X-Forwarded-Prefix") == ["/a" * 15_000 + "/apis/rayservice/chat"]


@pytest.mark.parametrize(
    "prefix", ["//evil.example", "evil", "/a b", '/"', "/a?b", "/", "https://evil.example", "/a//b"]
)
def test_a_prefix_that_is_no_path_is_not_believed(door, prefix):
    sent(door, ("X-Forwarded-Prefix", prefix))
    assert door.upstream.got("X-Forwarded-Prefix") == ["/apis/rayservice/chat"]


def test_a_model_gives_the_door_no_orders_and_none_of_them_is_passed(door):
    orders = (
        b"\r\nX-Accel-Redirect: /apis/rayservice/trusted/admin\r\nX-Accel-Limit-Rate: 1\r\nX-Accel-Charset: utf-7"
        b"\r\nX-Accel-Expires: 0\r\nX-Accel-Buffering: no\r\n\r\n"
    )
    door.upstream.answer = OK.replace(b"\r\n\r\n", orders)
    before = len(door.upstream.heads)
    answer = sent(door, ("Authorization", "Bearer secret"))
    assert answer.endswith(b"\r\n\r\n{}")
    assert len(door.upstream.heads) == before + 1
    assert answer.count(b"X-Accel") == 1
    assert b"\r\nX-Accel-Buffering: no\r\n" in answer
    assert b"Content-Type: application/json\r\n" in answer


@pytest.mark.parametrize("order", ["/-/error", "/-/healthz", "@nowhere"])
@pytest.mark.parametrize("door", ["prefix", "regex"], indirect=True)
def test_a_model_cannot_redirect_a_call_inside_of_nginx(door, order):
    door.upstream.answer = OK.replace(b"\r\n\r\n", f"\r\nX-Accel-Redirect: {order}\r\n\r\n".encode())
    answer = sent(door)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n{}")


def test_http_1_0_without_a_host_asks_the_model_with_its_own_address(door):
    """The model is asked in HTTP/1.1, where a request without a Host is refused (RFC 9112, 3.2)."""
    exchange(door.daemon.port, b"GET /apis/rayservice/chat/x HTTP/1.0\r\n\r\n")
    assert door.upstream.line == "GET /x HTTP/1.1"
    assert door.upstream.got("Host") == [f"127.0.0.1:{door.upstream.port}"]
    assert door.upstream.got("X-Forwarded-Host") == []


SAID = {
    "X-Forwarded-For": "192.0.2.66, 192.0.2.7", "X-Forwarded-Host": "shop.example", "X-Forwarded-Proto": "https",
    "X-Forwarded-Prefix": "/team-a", "Forwarded": "for=192.0.2.7",
}  # fmt: skip
KNOWN = [
    {"TRUSTED_FRONT_ENDS": "10.0.0.0/8, 127.0.0.0/8, ::1/128", "TEMPLATE": template}
    for template in ("prefix", "regex")
]
STRANGERS = [each | {"TRUSTED_FRONT_ENDS": "10.0.0.0/8, fd00::/8"} for each in KNOWN]
NAMES = ["prefix", "regex"]


@pytest.mark.fault(88)
@pytest.mark.parametrize("door", KNOWN, indirect=True, ids=NAMES)
def test_a_known_front_end_is_believed_and_its_caller_is_the_last_one_it_names(door):
    sent(door, *SAID.items())
    assert door.upstream.got("X-Real-IP") == ["192.0.2.7"]
    assert door.upstream.got("X-Forwarded-For") == ["192.0.2.66, 192.0.2.7, 127.0.0.1"]
    for name in ("X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"):
        assert door.upstream.got(name) == [SAID[name]]


@pytest.mark.fault(88)
@pytest.mark.parametrize("door", STRANGERS[:1], indirect=True, ids=NAMES[:1])
def test_what_a_stranger_says_of_itself_is_replaced_where_front_ends_are_known(door):
    sent(door, *SAID.items())
    assert door.upstream.got("X-Real-IP") == door.upstream.got("X-Forwarded-For") == ["127.0.0.1"]
    assert door.upstream.got("X-Forwarded-Host") == ["proxy.test"]
    assert door.upstream.got("X-Forwarded-Proto") == ["http"]
    assert door.upstream.got("X-Forwarded-Prefix") == ["/apis/rayservice/chat"]
    assert door.upstream.got("Forwarded") == []
    door.upstream.answer = OK.replace(b"\r\n\r\n", b"\r\nContent-Location: http://shop.example/a\r\n\r\n")
    assert b"Content-Location: http://shop.example/a\r\n" in sent(door, *SAID.items())


@pytest.mark.fault(88)
@pytest.mark.parametrize("door", STRANGERS[:1], indirect=True, ids=NAMES[:1])
@pytest.mark.parametrize("spelled", ["X_Forwarded_{}", "X-Forwarded_{}", "x_forwarded-{}"])
def test_nor_is_a_model_told_it_by_underscores_which_wsgi_reads_as_hyphens(door, spelled):
    sent(door, *((spelled.format(name), "evil") for name in ("For", "Host", "Proto", "Prefix")), ("X_Real-IP", "evil"))
    assert "evil" not in {value for _, value in door.upstream.fields}


@pytest.mark.fault(88)
@pytest.mark.parametrize("door", STRANGERS[1:], indirect=True, ids=NAMES[1:])
def test_with_the_regex_template_a_strangers_address_is_the_one_it_comes_from(door):
    sent(door, *SAID.items())
    assert door.upstream.got("X-Real-IP") == door.upstream.got("X-Forwarded-For") == ["127.0.0.1"]


def test_a_front_end_that_says_nothing_of_its_caller_is_the_caller(door):
    sent(door)
    assert door.upstream.got("X-Real-IP") == door.upstream.got("X-Forwarded-For") == ["127.0.0.1"]
