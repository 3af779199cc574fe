"""Network namespaces: one of the test's own, and the way into another, such as a container's without a network."""

from __future__ import annotations

import ctypes
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000  # sched.h
needs_namespaces = pytest.mark.skipif(
    subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True).returncode != 0,
    reason="needs a network namespace of its own: run as root",
)
# A pod of a cluster of IPv6: loopback keeps no address of IPv4, and kube-proxy leads the ClusterIP to the model.
POD, CLUSTER_IP = "fd00:10::5", "fd00:20::7"
IPV6_ONLY = (
    "sysctl -w net.ipv6.conf.all.disable_ipv6=0",  # Docker begins a network with IPv6 switched off
    "ip -4 address flush dev lo",
    *(f"ip -6 address add {ip}/128 dev lo nodad" for ip in (POD, CLUSTER_IP)),
)
# Runs a command for which this kernel has no IPv6 at all.
WITHOUT_IPV6 = (sys.executable, str(Path(__file__).parent / "without_ipv6.py"))

# It listens on a socket from outside and connects inside: a socket stays in the namespace that made it.
FORWARD = """
import asyncio, socket, sys

async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()

async def forward(reader, writer):
    inside, into = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    await asyncio.gather(pump(reader, into), pump(inside, writer))

async def main():
    server = await asyncio.start_server(forward, sock=socket.socket(fileno=int(sys.argv[1])))
    await server.serve_forever()

asyncio.run(main())
"""


@contextmanager
def forwarded(pid: int, port: int) -> Iterator[int]:
    """Yield a port on every address here that leads to a loopback port in a process's network namespace."""
    with socket.create_server(("0.0.0.0", 0)) as listener:
        descriptor = listener.fileno()
        command = ["nsenter", "-n", "-t", str(pid), sys.executable, "-c", FORWARD, str(descriptor), str(port)]
        process = subprocess.Popen(command, pass_fds=[descriptor])
        try:
            yield listener.getsockname()[1]
        finally:
            process.terminate()
            process.wait()


@contextmanager
def network(*commands: str) -> Iterator[None]:
    """Be in a new network namespace, this thread and what it starts, set up with these commands after loopback."""
    with _coming_back():
        _enter(_libc.unshare(CLONE_NEWNET))
        set_up(*commands)
        yield


@contextmanager
def joined(pid: int) -> Iterator[None]:
    """Be in the network namespace of a process, this thread and what it starts."""
    with _coming_back(), Path(f"/proc/{pid}/ns/net").open("rb") as theirs:
        _enter(_libc.setns(theirs.fileno(), CLONE_NEWNET))
        yield


def set_up(*commands: str) -> None:
    """Bring loopback up, and run commands such as `ip address add`."""
    for command in ("ip link set lo up", *commands):
        subprocess.run(command.split(), check=True, capture_output=True)


@contextmanager
def _coming_back() -> Iterator[None]:
    with Path("/proc/thread-self/ns/net").open("rb") as own:
        try:
            yield
        finally:
            _enter(_libc.setns(own.fileno(), CLONE_NEWNET))


def _enter(code: int) -> None:
    if code:
        raise OSError(ctypes.get_errno(), "no way into a network namespace")
