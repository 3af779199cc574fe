"""What a caller sees: JSON for every error made here, and nothing touched of what the model server says."""

from __future__ import annotations

import json
import re
import socket
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.support.daemon import Daemon
from tests.support.http import Answer, free_port, request
from tests.support.manifests import Manifests, rayservice, routed_names, service
from tests.support.processes import workers
from tests.support.raw import exchange
from tests.support.upstream import Upstream
from tests.support.waiting import until

Sides = dict[str, Daemon]
RESERVED = ["default", "hostnames", "include", "volatile"]  # words of nginx's map


def raw(side: Daemon, text: bytes) -> tuple[int, bytes]:
    """Send bytes and return status and body of the answer."""
    with socket.create_connection(("127.0.0.1", side.port), 10) as connection:
        connection.sendall(text)
        response = HTTPResponse(connection)
        response.begin()
        return response.status, response.read()


def assert_own_error(answer: Answer, status: int, kind: str) -> None:
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    error = answer.json["error"]
    assert (error["type"], error["code"], error.keys()) == (kind, status, {"message", "type", "code"})
    assert len(error["message"]) > 10
    assert answer.headers["cache-control"] == "no-store"
    assert "nginx/" not in answer.headers["server"]


NOWHERE = [
    "/", "/nothing", "/index.html", "/apis/rayservice", "/apis/rayservice/", "/apis/rayservice/none",
    "/apis/rayservice/none/x", "/-/", "/-/error", "/-/redirect", "/-/redirected", "/-/model-error",
    "/-/busy", "/-/hidden",
]  # fmt: skip


@pytest.mark.parametrize("target", NOWHERE)
def test_what_is_not_routed_is_404(sides: Sides, target: str):
    for side in sides.values():
        assert_own_error(side.get(target), 404, "rayservice_not_found")
        assert "retry-after" not in side.get(target).headers


def test_a_head_request_gets_the_head_of_the_error(sides: Sides):
    answer = sides["prefix"].get("/nothing", method="HEAD")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (404, b"", "application/json")


LIMITS = [
    ("/apis/rayservice/chat/" + "x" * 66_000, {}, b"", 414, "uri_too_long"),
    ("/apis/rayservice/chat/x", {"X-Big": "x" * 66_000}, b"", 431, "headers_too_large"),
    ("/apis/rayservice/chat/x", {}, b"x" * 65_537, 413, "request_too_large"),
    ("/apis/rayservice/chat/%zz", {}, b"", 400, "bad_request"),
]


@pytest.mark.parametrize(("target", "headers", "body", "status", "kind"), LIMITS)
def test_what_is_too_large_or_malformed_is_told_in_json(sides: Sides, target, headers, body, status, kind):
    method = "POST" if body else "GET"
    for side in sides.values():
        assert_own_error(side.get(target, method=method, headers=headers, body=body), status, kind)


def test_the_largest_body_and_a_long_line_pass(sides: Sides):
    assert sides["prefix"].route("chat", "x", method="POST", body=b"x" * 65_536).status == 200
    assert sides["prefix"].route("chat", "x" * 16_000).status == 200


MALFORMED = [
    (b"GET / HTTP/1.1\r\n\r\n", 400), (b"GET  /  HTTP/1.1\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    (b"GET / HTTP/3.0\r\nHost: h\r\n\r\n", 505), (b"TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", 405),
    (b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nHost: h\r\nBad Header: x\r\n\r\n", 400),
    (b'GET /-/healthz HTTP/1.1\r\nHost: h\r\nIf-Match: "x"\r\n\r\n', 412),
    (b"GET /-/healthz HTTP/1.1\r\nHost: h\r\nIf-Unmodified-Since: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n", 412),
]  # fmt: skip


@pytest.mark.parametrize(("text", "status"), MALFORMED)
def test_no_request_however_malformed_gets_an_html_page(sides: Sides, text: bytes, status: int):
    found, body = raw(sides["prefix"], text)
    assert (found, json.loads(body)["error"]["code"]) == (status, status)


def test_a_path_without_its_slash_is_redirected_by_a_relative_308_that_keeps_query_and_method(sides: Sides):
    for side in sides.values():
        for method in ("GET", "POST"):
            answer = side.get("/apis/rayservice/chat?a=b&c=%20", method=method)
            assert (answer.status, answer.headers["location"]) == (308, "chat/?a=b&c=%20")
            assert answer.headers["content-type"] == "application/json"
            assert answer.json
        assert side.get("/apis/rayservice/chat").headers["location"] == "chat/"


def test_a_body_that_is_too_large_for_a_redirect_is_told_in_json(sides: Sides):
    for side in sides.values():
        answer = side.get("/apis/rayservice/chat", method="POST", body=b"x" * 65_537)
        assert_own_error(answer, 413, "request_too_large")


def test_hostile_hosts_and_queries_do_not_lead_a_redirect_elsewhere(sides: Sides):
    for side in sides.values():
        answer = side.get("/apis/rayservice/chat?//evil.example", headers={"X-Forwarded-Host": "evil.example"})
        assert answer.headers["location"].startswith("chat/")


@pytest.mark.parametrize(
    "status", [200, 201, 204, 301, 302, 308, 400, 401, 403, 404, 405, 413, 422, 429, 500, 502, 503, 504]
)
def test_an_answer_of_the_model_server_passes_untouched(sides: Sides, status: int):
    for side in sides.values():
        answer = side.route("chat", f"status/{status}")
        assert (answer.status, answer.headers["content-type"]) == (status, "text/html")
        assert answer.body == (b"" if status == 204 else b"<html>the model server's own page</html>")
        assert "retry-after" not in answer.headers


def test_states_of_a_rayservice_are_told_apart(daemon: Daemon, manifests: Manifests):
    waiting, refused, dead = rayservice("slow"), rayservice("bad"), rayservice("dead")
    manifests.write("slow", waiting)
    manifests.write("bad", refused, service(refused, clusterIP="None"))
    manifests.write("dead", dead, service(dead, ports=[{"name": "serve", "port": free_port()}]))
    daemon.start()
    for tail in ("", "x?y=z"):
        pending = daemon.route("slow", tail, method="POST", body=b"x")
        assert_own_error(pending, 503, "rayservice_pending")
        assert pending.headers["retry-after"] == "5"
        rejected = daemon.route("bad", tail)
        assert_own_error(rejected, 503, "rayservice_rejected")
        assert "retry-after" not in rejected.headers
        unavailable = daemon.route("dead", tail, method="POST", body=b"x")
        assert_own_error(unavailable, 503, "rayservice_unavailable")
        assert unavailable.headers["retry-after"] == "5"
    assert daemon.get("/apis/rayservice/slow").error_type == "rayservice_pending"


def test_what_waiting_does_not_mend_is_told_without_a_time_to_try_again(daemon: Daemon, manifests: Manifests):
    long = "a" + "b" * 47
    manifests.write("suspended", rayservice("asleep", spec={"suspend": True}))
    manifests.write("refused", rayservice(long))
    daemon.start()
    for name, error_type in (("asleep", "rayservice_suspended"), (long, "rayservice_refused")):
        answer = daemon.route(name, "inference", method="POST", body=b"x")
        assert_own_error(answer, 503, error_type)
        assert "retry-after" not in answer.headers
        assert daemon.get(f"/apis/rayservice/{name}").error_type == error_type
    assert daemon.metric('rayproxy_routes{state="suspended"}') == 1
    assert daemon.metric('rayproxy_routes{state="refused"}') == 1
    assert daemon.metric("rayproxy_pending_longest_seconds") == 0


def test_a_rejected_name_is_told_as_such_whatever_kubernetes_takes_as_a_name(daemon: Daemon, manifests: Manifests):
    names = ("9chat", "chat.v2", "1.2.3", "a" * 64, "a" * 253)
    manifests.write("odd", *(rayservice(name) for name in names), rayservice("Chat"))
    manifests.routed("chat")
    daemon.start()
    for name in names:
        assert_own_error(daemon.route(name, "x"), 503, "rayservice_rejected")
        assert_own_error(daemon.get(f"/apis/rayservice/{name}"), 503, "rayservice_rejected")
    assert daemon.error("Chat") == "rayservice_not_found", "no name in Kubernetes"
    assert daemon.error("chat.v") == "rayservice_not_found"
    assert daemon.answers_from("chat", "upstream")


def test_a_model_server_that_comes_and_goes_causes_no_reload(daemon: Daemon, manifests: Manifests):
    port = free_port()
    manifests.routed("chat", port=port)
    daemon.start()
    before = daemon.reloads
    for _ in range(3):
        assert daemon.error("chat") == "rayservice_unavailable"
        server = Upstream(port=port, name="back")
        assert daemon.answers_from("chat", "back")
        server.close()
    assert daemon.reloads == before


def test_a_model_server_that_breaks_off_before_its_answer_answered_badly(daemon: Daemon, manifests: Manifests):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        manifests.routed("chat", port=listener.getsockname()[1])
        daemon.start()
        with socket.create_connection(("127.0.0.1", daemon.port), 10) as caller:
            caller.sendall(b"GET /apis/rayservice/chat/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            connection, _ = listener.accept()
            connection.recv(4096)
            connection.close()
            assert b"rayservice_bad_answer" in caller.makefile("rb").read()


@pytest.mark.fault(28)
def test_a_rayservice_may_be_called_like_a_word_of_nginx(daemon: Daemon, manifests: Manifests):
    names = [*RESERVED, "server", "location", "if", "a" * 63]
    starting = {"pendingServiceStatus": {"rayClusterName": "x"}}  # as KubeRay 1.3, which takes 63 characters
    for name in names:
        manifests.write(name, rayservice(name, status=starting))
    daemon.start()
    assert {daemon.error(name) for name in names} == {"rayservice_pending"}
    for name in names:
        manifests.routed(name)
        manifests.folder.joinpath(f"{name}.yaml").unlink()
    for name in names:
        daemon.until_state(name, "accepted")
        assert daemon.error(name) == ""
    assert routed_names(daemon) == set(names)


@pytest.mark.fault(26)
def test_names_that_begin_alike_do_not_answer_for_one_another(daemon: Daemon, manifests: Manifests):
    other = Upstream(name="other")
    manifests.routed("foo")
    manifests.routed("foo-bar", port=other.port)
    manifests.write("bad", rayservice("foo.bar"))
    daemon.start()
    assert daemon.answers_from("foo", "upstream")
    assert daemon.answers_from("foo-bar", "other")
    assert daemon.error("foo.bar") == "rayservice_rejected"
    assert daemon.error("foo.baz") == "rayservice_not_found"
    assert daemon.routes()["default/foo.bar"]["reason"] == "InvalidName"
    other.close()


def test_nginx_says_that_it_is_well_without_any_route(daemon: Daemon):
    daemon.start()
    answer = request(("127.0.0.1", daemon.port), "/-/healthz")
    assert (answer.status, answer.json) == (200, {"status": "ok"})


def test_a_worker_may_open_the_files_its_connections_need_whatever_limit_it_started_with(daemon: Daemon):
    """Container engines differ: some give 1,024, which 500 streams use up."""
    daemon.environment["RAYPROXY_WORKER_CONNECTIONS"] = "300"
    daemon.start()
    for worker in workers(daemon):
        limit = re.search(r"^Max open files +(\d+)", Path(f"/proc/{worker}/limits").read_text(), re.MULTILINE)
        assert limit
        assert int(limit[1]) == 2 * 300 + 64


def test_each_call_is_a_line_of_the_log_where_that_is_wanted(new_daemon: Start, manifests: Manifests):
    manifests.routed("chat")
    daemon = new_daemon(ACCESS_LOG="true").start()
    daemon.route("chat", "a?b", headers={"Cookie": "secret"})
    line = until(
        "its line", lambda: re.search(r'^{"time".*"uri":"/apis/rayservice/chat/a\?b".*}$', daemon.told(), re.MULTILINE)
    )
    assert line
    assert json.loads(line[0])["status"] == 200
    assert "secret" not in daemon.told()


@pytest.mark.slow
def test_a_request_that_does_not_arrive_is_cut_without_an_answer_and_is_408_in_the_log(
    new_daemon: Start, manifests: Manifests
):
    manifests.routed("chat")
    daemon = new_daemon(WORKERS="1", ACCESS_LOG="true").start()
    halves = [b"Hos", b"Host: h\r\nContent-Length: 10\r\n\r\nabc"]
    with ExitStack() as stack:
        callers = [stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port), 60)) for _ in halves]
        for caller, half in zip(callers, halves, strict=True):
            caller.sendall(b"POST /apis/rayservice/chat/x HTTP/1.1\r\n" + half)
        for caller in callers:
            with pytest.raises(ConnectionResetError):
                caller.recv(1)
    until("both are told", lambda: daemon.told().count('"status":408,"bytes":0,') == len(halves))


ODD = [
    b"GET /apis/rayservice/chat/\xff HTTP/1.0\r\n\r\n", b"GET /apis/rayservice/chat/a?b=\xe4\xbd HTTP/1.0\r\n\r\n",
    b'GET /apis/rayservice/chat/"\\{}?"\xc3\xa4 HTTP/1.0\r\n\r\n', b"GET /apis/rayservice/chat/\r\n",
    b"\xff / HTTP/1.0\r\n\r\n", b"GET /\x00 HTTP/1.0\r\n\r\n", b"GET /" + b"a" * 70_000 + b"\xff HTTP/1.0\r\n\r\n",
    b"GET http://\xff/ HTTP/1.0\r\n\r\n", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n\xff\r\n",
]  # fmt: skip


@pytest.mark.fault(150)
def test_each_line_of_the_log_of_calls_is_json_whatever_bytes_a_caller_sends(new_daemon: Start, manifests: Manifests):
    manifests.routed("chat")
    daemon = new_daemon(WORKERS="1", ACCESS_LOG="true").start()
    for text in ODD:
        exchange(daemon.port, text)
    lines = until("all are told", lambda: _lines(daemon) if len(_lines(daemon)) == len(ODD) else None)
    told = [json.loads(line) for line in lines]
    assert [each["uri"] for each in told[:4]] == [
        "/apis/rayservice/chat/...", "/apis/rayservice/chat/a?b=...", '/apis/rayservice/chat/"\\{}?"...',
        "/apis/rayservice/chat/",
    ]  # fmt: skip


def _lines(daemon: Daemon) -> list[bytes]:
    return [line for line in daemon.log.read_bytes().splitlines() if line.startswith(b'{"time"')]
