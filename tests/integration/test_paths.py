"""The template `regex` beside the default one: what the upstream really receives, byte for byte."""

from __future__ import annotations

import re
import socket
from urllib.parse import unquote_to_bytes

import pytest

from tests.support.daemon import Daemon

Sides = dict[str, Daemon]

ADDED = {"x-forwarded-host", "x-forwarded-proto", "x-forwarded-prefix"}
# RFC 3986: what a request target may be made of.
TARGET = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})+")

SAME = [
    "", "inference", "a/b/c", "embeddings/QuestionAnswer?stream=true", "?x=1", "a?x=1&y=%20%2F", "a?", "a??b",
    "a%2Fb", "a%2fb?q=%2F", "a%26b", "a%7Eb", "a+b", "a;b=c", "a:b@c", "a~b!$'()*,", "a//b", "//", "a/./b",
    "a/../b", "%2e%2e%2fchat/x", "x" * 8000, "a?" + "q" * 8000,
]  # fmt: skip
ONLY_DEFAULT = [
    "a%20b", "a%3Fb", "a%3fadmin=1?d", "a%25xx", "a%2520b", "a%250d%250ab", "%E4%BD%A0", "a%23b", "a%22b", "a%5Cb",
    "a%09b", "a%7Fb", "a%0d%0aX-Evil:%201", "a%20HTTP/1.1%0d%0aHost:%20evil",
]  # fmt: skip
BOTH_REFUSE = [
    ("..", 404), ("../x", 404), ("..%2fx", 404), ("%2e%2e/x", 404), ("a/../../y", 404), ("a%00b", 400), ("a%zz", 400),
    ("../../../../etc/passwd", 400), ("x" * 66_000, 414),
]  # fmt: skip


def line(sides: Sides, template: str, tail: str, **options) -> dict:
    answer = sides[template].route("chat", tail, **options)
    assert answer.status == 200, answer
    return answer.json


def meaning(target: str) -> tuple[bytes, str]:
    """Return the path as it decodes, normalised as nginx does it, and the query."""
    path, _, query = target.partition("?")
    path = re.sub(rb"/[^/]+/\.\.(?=/|$)|/\.(?=/|$)", b"", unquote_to_bytes(path)).decode("latin-1")
    return path.encode("latin-1"), query


def without_added(seen: dict) -> dict:
    """Leave out the fields that a location with a proxy_set_header of its own cannot inherit."""
    fields = {name: value for name, value in seen["headers"].items() if name not in ADDED}
    assert seen["headers"].keys() - fields.keys() == ADDED
    return seen | {"headers": fields}


def works(seen: dict, tail: str) -> bool:
    """Tell whether the upstream got a valid request line that means what was asked for."""
    _, target, _ = (seen["line"] + "   ").split(" ", 2)
    proper = re.fullmatch(r"[A-Z]+ \S+ HTTP/1\.1", seen["line"]) and TARGET.fullmatch(target)
    return bool(proper) and meaning(target) == meaning("/" + tail.replace("%2e%2e%2fchat/", ""))


@pytest.mark.fault(29)
@pytest.mark.parametrize("tail", SAME)
def test_where_the_regex_template_works_the_default_sends_the_same_line_and_headers(sides, tail):
    regex, default = line(sides, "regex", tail), line(sides, "prefix", tail)
    assert works(regex, tail), regex["line"]
    assert without_added(default) == regex


@pytest.mark.fault(29)
@pytest.mark.parametrize("tail", ONLY_DEFAULT)
def test_where_the_regex_template_fails_the_default_works(sides, tail):
    regex, default = line(sides, "regex", tail), line(sides, "prefix", tail)
    assert not works(regex, tail), regex["line"]
    assert works(default, tail), default["line"]
    assert "x-evil" not in default["headers"]
    assert default["headers"]["host"] == "proxy.test"


@pytest.mark.fault(29)
@pytest.mark.parametrize(("tail", "status"), BOTH_REFUSE)
def test_a_path_that_leaves_the_prefix_or_is_no_path_reaches_no_upstream(sides, tail, status):
    for side in sides.values():
        answer = side.route("chat", tail)
        assert answer.status == status
        assert answer.json["error"]["code"] == status


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_methods_bodies_and_headers_arrive_the_same_through_both(sides, method):
    options = {
        "method": method,
        "body": '{"input": "你好"}'.encode() if method.startswith("P") else b"",
        "headers": {
            "Content-Type": "application/json; charset=utf-8", "Authorization": "Bearer x", "Cookie": "a=b",
            "X-Forwarded-For": "192.0.2.7", "X-Custom": "ü;$host", "Accept-Encoding": "gzip", "Via": "1.1 front",
        },
    }  # fmt: skip
    regex, default = (line(sides, side, "inference?a=b", **options) for side in ("regex", "prefix"))
    assert regex == without_added(default)
    assert regex["line"] == f"{method} /inference?a=b HTTP/1.1"
    seen = default["headers"]
    assert (seen["host"], seen["x-real-ip"]) == ("proxy.test", "127.0.0.1")
    assert seen["x-forwarded-for"] == "192.0.2.7, 127.0.0.1"
    assert (seen["authorization"], seen.get("cookie")) == ("Bearer x", None)
    assert seen["x-custom"].encode("latin-1").decode() == "ü;$host"
    assert default["body"].encode("latin-1") == options["body"]


def test_a_body_of_unknown_length_arrives_whole_through_both(sides):
    for side in sides.values():
        with socket.create_connection(("127.0.0.1", side.port), 10) as connection:
            connection.sendall(
                b"POST /apis/rayservice/chat/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
            )
            answer = b""
            while piece := connection.recv(4096):
                answer += piece
        assert b'"body": "abcdefg"' in answer


def test_a_name_does_not_match_another_one_that_it_begins(sides):
    for side in sides.values():
        for name in ("cha", "chatt", "chat-2", "CHAT", "chat.", "chat%20", "x/apis/rayservice/cha"):
            assert side.error(name) == "rayservice_not_found"


@pytest.mark.parametrize("template", ["prefix", "regex"])
@pytest.mark.parametrize(
    ("tail", "arrives"),
    [
        ("models/https://x/a", "models/https://x/a"), ("models/s3%3A%2F%2Fb%2Fm", "models/s3://b/m"), ("/", "/"),
        ("//a///b//", "//a///b//"), ("%2F%2Fa", "//a"),
    ],
)  # fmt: skip
def test_an_empty_segment_is_a_part_of_a_path(sides, template, tail, arrives):
    assert line(sides, template, tail)["line"] == f"GET /{arrives} HTTP/1.1"


NORMALISED = [
    ("a%2Fb", "a/b"), ("a%2eb", "a.b"), ("%5Ba%5D", "[a]"), ("%7Ea", "~a"), ("a?", "a"), ("a/./b", "a/b"),
    ("a/../b", "b"), ("a%2F..%2Fb", "b"), ("a//../b", "a/b"), ("%41", "A"),
]  # fmt: skip


@pytest.mark.parametrize(("tail", "arrives"), NORMALISED)
def test_what_nginx_normalises_is_what_docs_http_md_says(sides, tail, arrives):
    assert line(sides, "prefix", tail)["line"] == f"GET /{arrives} HTTP/1.1"


ELSEWHERE = [
    "/apis//rayservice/chat/x", "//apis/rayservice/chat/x", "/apis/rayservice//chat/x", "/./apis//rayservice/chat/x",
    "/apis/rayservice/chat/../../x", "//apis/rayservice/chat/..%2f..%2f", "/x/../apis/rayservice//chat/",
]  # fmt: skip


@pytest.mark.parametrize("target", ELSEWHERE)
def test_a_path_that_is_no_routes_path_is_not_read_as_one(sides, target):
    answer = sides["prefix"].get(target)
    assert (answer.status, answer.error_type) == (404, "rayservice_not_found")


HERE = [
    "/apis/rayservice/chat/x", "/apis/rayservice/other/..%2fchat/x", "/apis/rayservice/other/../chat/x",
    "/x/../apis/rayservice/chat/x", "/x%2f..%2fapis/rayservice/chat/x", "/apis/rayservice/ch%61t/x",
    "/apis%2Frayservice%2Fchat%2Fx", "/apis/rayservice/chat/other/%2e%2e/x",
]  # fmt: skip


@pytest.mark.parametrize("target", HERE)
def test_the_path_that_chooses_a_route_is_the_path_that_its_model_is_asked_with(sides, target):
    assert sides["prefix"].get(target).json["line"] == "GET /x HTTP/1.1"
