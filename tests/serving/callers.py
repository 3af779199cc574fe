"""Callers of a server who do not wait for their answer."""

import json
import socket
from contextlib import contextmanager


@contextmanager
def asked(running, path, body):
    """Ask, and hang up at the end."""
    data = json.dumps(body).encode()
    kind = f"Host: a\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
    with socket.create_connection(("127.0.0.1", running.client.base_url.port)) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\n{kind}\r\n\r\n".encode() + data)
        yield


def counted(running, path):
    """Return how many callers of a route have hung up before they were answered, by the server's metrics."""
    named = {"route": path, "status": "499"}
    return running.server.metrics.registry.get_sample_value("serving_requests_total", named) or 0
