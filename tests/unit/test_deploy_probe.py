"""What is told of the proxy's answer where it is not that of Ray Serve."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rayproxy.checkpoint.stages import ANSWERED
from rayproxy.checkpoint.wait import unanswered

PENDING = {"error": {"message": "The RayService is there,\nits Service is not.", "type": "rayservice_pending"}}
ANSWERS = {
    "/success": (200, {}, b"success"),
    "/page": (200, {}, b"<html>success"),
    "/login": (401, {}, b"who are you"),
    "/moved": (301, {"Location": "https://proxy.example.com/"}, b""),
    "/pending": (503, {}, json.dumps(PENDING).encode()),
    "/other-json": (500, {}, b'{"error": "\\u001b[31mno"}'),
    "/deep": (500, {}, b"[" * 100_000),
}


class Proxy(BaseHTTPRequestHandler):
    def do_GET(self):
        status, fields, body = ANSWERS[self.path]
        self.send_response(status)
        for name, value in (fields | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def port():
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/page", "200 OK in place of Ray Serve's 'success'"),
        ("/login", "401 Unauthorized in place of Ray Serve's 'success'"),
        ("/moved", "301 to https://proxy.example.com/"),
        ("/pending", "503 rayservice_pending: The RayService is there, its Service is not."),
        ("/other-json", "500 Internal Server Error in place of Ray Serve's 'success'"),
        ("/deep", "500 Internal Server Error in place of Ray Serve's 'success'"),
    ],
)
def test_what_the_proxy_answers_in_place_of_ray_serve_is_told(path, told, port):
    url = f"http://127.0.0.1:{port}{path}"
    assert unanswered(url) == f"GET {url}: {told}"


def test_of_ray_serves_own_answer_nothing_is_told(port):
    assert unanswered(f"http://127.0.0.1:{port}/success") == ANSWERED


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("https://127.0.0.1:{port}", "SSLError: "),
        ("http://127.0.0.1:1", "NewConnectionError: "),
        ("http://nobody.invalid", "NameResolutionError: "),
        ("http://a..b", "LocationParseError: "),
    ],
)
def test_why_no_answer_comes_is_told(address, error, port):
    url = address.format(port=port)
    assert unanswered(url).startswith(f"GET {url}: {error}")
