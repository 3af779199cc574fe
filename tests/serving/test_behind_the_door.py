"""Applications of FastAPI on uvicorn behind the proxy: what works without it works through it."""

from __future__ import annotations

import socket
import threading
from concurrent import futures

import grpc
import httpx
import pytest
import uvicorn
from conftest import free_port, wait_for
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from proxy import NGINX, proxy

pytestmark = pytest.mark.skipif(NGINX is None, reason="no nginx here; `make install-serving` installs it")


def application() -> FastAPI:
    app = FastAPI()

    @app.post("/items/")
    async def items(request: Request) -> JSONResponse:
        body = (await request.body()).decode()
        return JSONResponse({"body": body, "headers": dict(request.headers), "path": request.scope["path"]})

    @app.post("/refused")
    async def refused() -> JSONResponse:  # from the head alone, as whoever asks for a key does
        return JSONResponse({}, 401)

    @app.get("/large")
    async def large() -> JSONResponse:
        return JSONResponse({}, headers={f"X-Cookie-{number}": "x" * 1500 for number in range(40)})

    return app


@pytest.fixture(scope="module", params=["h11", "httptools"])
def door(request, tmp_path_factory):
    """Serve the application by one of uvicorn's two parsers; yield its address through the proxy."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application(), http=request.param, log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    wait_for(lambda: server.started, "uvicorn listens", 20)
    routes = {"m": listener.getsockname()[1]}
    try:
        with proxy(tmp_path_factory.mktemp("nginx"), f"127.0.0.1:{free_port()}", routes) as front:
            yield f"{front.url}/apis/rayservice/m"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def test_a_post_without_the_slash_that_fastapi_wants_ends_at_its_handler_with_its_body(door):
    answer = httpx.post(f"{door}/items", content=b'{"a": 1}', follow_redirects=True)
    assert (answer.status_code, answer.json()["body"]) == (200, '{"a": 1}')
    assert [step.headers["location"] for step in answer.history] == ["/apis/rayservice/m/items/"]


def test_an_answer_that_does_not_wait_for_the_body_is_the_callers(door):
    assert [httpx.post(f"{door}/refused", content=b"x" * 5_000_000).status_code for _ in range(10)] == [401] * 10


def test_the_field_that_chooses_a_model_of_ray_serve_arrives(door):
    answer = httpx.post(f"{door}/items/", headers={"serve_multiplexed_model_id": "adapter-1"})
    assert answer.json()["headers"]["serve_multiplexed_model_id"] == "adapter-1"


def test_a_client_that_offers_http2_is_answered_with_its_body_read(door):
    """As the JDK's HttpClient and `curl --http2` offer it. Passed on, the offer makes uvicorn read no body."""
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    answer = httpx.post(f"{door}/items/", content=b"whole", headers=offer)
    assert (answer.status_code, answer.json()["body"]) == (200, "whole")


def test_heads_of_60_kb_pass_both_ways(door):
    assert len(httpx.get(f"{door}/large").headers["x-cookie-39"]) == 1500
    sent = {f"X-{number}": "x" * 1500 for number in range(38)}
    seen = httpx.post(f"{door}/items/", headers=sent).json()["headers"]
    assert {name: seen[name.lower()] for name in sent} == sent


def test_the_model_knows_the_path_it_lives_under(door):
    seen = httpx.post(f"{door}/items/").json()
    assert seen["path"] == "/items/"
    assert seen["headers"]["x-forwarded-prefix"] == "/apis/rayservice/m"


def test_a_port_that_speaks_grpc_gives_its_caller_bytes_that_are_no_http(tmp_path):
    """A limit of nginx (docs/http.md), and why the proxy rejects ports that say what they are."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with (
            proxy(tmp_path, f"127.0.0.1:{free_port()}", {"m": port}) as front,
            pytest.raises(httpx.RemoteProtocolError),
        ):
            httpx.post(f"{front.url}/apis/rayservice/m/", content=b"{}", headers={"Connection": "close"})
    finally:
        server.stop(None)
