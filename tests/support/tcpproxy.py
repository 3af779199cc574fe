"""A TCP proxy that can be cut, frozen and half-closed: what networks do and servers do not."""

from __future__ import annotations

import contextlib
import socket
import threading


class TcpProxy:
    """Forward to an upstream on loopback until closed."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream = ("127.0.0.1", upstream_port)
        self._flows = threading.Event()
        self._flows.set()
        self._clients: list[socket.socket] = []
        self._all: list[socket.socket] = []
        self._pumps: list[threading.Thread] = []
        self._frozen: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def freeze(self) -> None:
        """Keep every connection that is open, and let no byte through it ever again; new ones flow."""
        self._frozen |= set(self._all)

    def hang(self) -> None:
        """Let no byte through any connection, new ones too, until `flow`."""
        self._flows.clear()

    def flow(self) -> None:
        """Let bytes through again, except where frozen."""
        self._flows.set()

    def half_close(self) -> None:
        """End what flows to the clients, and go on reading what they send."""
        for connection in self._clients:
            _shut(connection, socket.SHUT_WR)

    def cut(self) -> None:
        """End every connection that is open."""
        for connection in self._all:
            _shut(connection)

    def close(self) -> None:
        self._flows.set()
        _shut(self._listener)  # wakes accept(), which close() alone does not
        self._acceptor.join(10)
        self._listener.close()
        self.cut()
        for pump in self._pumps:
            pump.join(5)
        for connection in self._all:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._upstream, 5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self._clients.append(client)
            self._all += [client, server]
            for pair in ((client, server), (server, client)):
                self._pumps.append(threading.Thread(target=self._pump, args=pair, daemon=True))
                self._pumps[-1].start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self._flows.wait()
                if target not in self._frozen:
                    target.sendall(data)
        except OSError:
            pass
        if target not in self._frozen:
            _shut(target)


def _shut(connection: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(how)
