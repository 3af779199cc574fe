"""What OpenAI's client does by itself when a call fails behind the proxy: nothing that makes a model work twice."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager

import openai
import pytest
from conftest import free_port
from proxy import NGINX, proxy

pytestmark = pytest.mark.skipif(NGINX is None, reason="no nginx here; `make install-serving` installs it")


@contextmanager
def model(answer):
    """Listen; give each call to `answer` and yield the list of the calls."""
    calls = []

    def serve(listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                calls.append(connection.recv(65536))
                answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1], calls
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


FAILURES = {
    "silent": (lambda connection: connection.recv(1), 504),  # until the proxy gives up
    "closed": (lambda _: None, 502),
    "cut": (lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Ty"), 502),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_call_that_the_model_has_begun_is_made_once(tmp_path, case):
    answer, status = FAILURES[case]
    with model(answer) as (port, calls), proxy(tmp_path, f"127.0.0.1:{free_port()}", {"m": port}, 2) as front:
        client = openai.OpenAI(base_url=f"{front.url}/apis/rayservice/m/v1", api_key="none")
        with pytest.raises(openai.InternalServerError) as raised:
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    assert raised.value.status_code == status
    assert len(calls) == 1
