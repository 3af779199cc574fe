"""The model server of `inference.py` with a websocket beside its own routes, which echoes what comes."""

from __future__ import annotations

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from llmserving import deployment as served
from llmserving.app import build_app
from llmserving.server import Server


def with_socket(server: Server) -> FastAPI:
    app = build_app(server)
    app.add_api_websocket_route("/ws", echo)
    return app


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        pass


served.build_app = with_socket  # which the replica calls
deployment = served.build({})
