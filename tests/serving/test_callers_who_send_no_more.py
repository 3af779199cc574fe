"""Callers who close their half of the connection once they have asked, and read: they look like those who hang up."""

import json
import socket

import pytest


def status(running, path, body):
    """Ask, send no more, and return the status of the answer, if one comes."""
    data = json.dumps(body).encode()
    kind = f"Host: a\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
    with socket.create_connection(("127.0.0.1", running.client.base_url.port), 30) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\n{kind}\r\n\r\n".encode() + data)
        connection.shutdown(socket.SHUT_WR)
        return connection.makefile("rb").readline()[9:12].decode()


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/tokenize", {"prompt": "hi"}, "200"),
        ("/tokenize", {"prompt": "hi", "return_token_strs": True}, "200"),
        ("/detokenize", {"tokens": [65]}, "200"),
        ("/v1/completions", {"prompt": "hi", "max_tokens": -1}, "400"),
        ("/v1/chat/completions", {"messages": 3}, "400"),
        ("/inference", {"input": 3}, "400"),
        ("/tokenize", {"prompt": "hi", "model": "another"}, "404"),
    ],
)
def test_what_is_answered_at_once_is_answered_to_who_sends_no_more(echo, path, body, expected):
    assert [status(echo, path, body) for _ in range(20)] == [expected] * 20
