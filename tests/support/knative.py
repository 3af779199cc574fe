"""Knative's private gateway, which finds a model by the Host and knows no other."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from tests.support.kserve import KServe, gateway, host
from tests.support.upstream import Upstream


@dataclass
class Gateway(Upstream):
    """A private gateway: it knows a model by its Host; without others, by that which is the gateway's name here."""

    models: set[str] = field(default_factory=set)

    def _answer(self, connection: socket.socket, stream, head: list[str]) -> None:
        hosts = [line.partition(":")[2].strip() for line in head if line.lower().startswith("host:")]
        if len(hosts) != 1 or hosts[0] not in (self.models or {self.name}):
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        super()._answer(connection, stream, head)


@contextmanager
def private_gateway(kserve: KServe) -> Iterator[tuple[str, Gateway]]:
    """Make one in a namespace of its own; yield its namespace and name, and what answers there: `chat` alone."""
    namespace = kserve.cluster.namespace("gateway")
    made = kserve.create(gateway(f"{namespace}/knative-local-gateway"))
    try:
        server = Gateway(made["spec"]["clusterIP"], 80, host("chat-predictor", kserve.namespace))
    except PermissionError:
        pytest.skip("needs port 80: run the tests as root")
    yield f"{namespace}/knative-local-gateway", server
    server.release.set()
    server.close()


def leads_to(key: str) -> str:
    """Return the externalName of a placeholder that leads to a gateway."""
    namespace, name = key.split("/")
    return f"{name}.{namespace}.svc.cluster.local"
