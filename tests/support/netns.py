"""Reach a server inside another network namespace, such as a container's that has no network at all."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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
