"""Network namespaces: one of the test's own, and the way into another, such as a container's without a network."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CLONE_NEWNET = 0x40000000  # sched.h
needs_namespaces = pytest.mark.skipif(
    subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True).returncode != 0,
    reason="needs a network namespace of its own: run as root",
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
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        for command in ("ip link set lo up", *commands):
            subprocess.run(command.split(), check=True, capture_output=True)
        yield
    finally:
        if libc.setns(own, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(own)
