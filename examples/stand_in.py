"""A stand-in for a model server: answers the documented calls at once, streams in pieces, knows nothing.

python examples/stand_in.py [address:port]
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator

ANSWER = ["你好", "! I am ", "a stand-in ", "for a model, ", "and this is ", "my stream."]


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.decode("latin-1").split("\r\n")
            method, target, _ = lines[0].split(" ", 2)
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            await answer(writer, method, target, body)
            if headers.get("connection", "").lower() == "close":
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the client is gone, which is its right
    finally:
        writer.close()


async def answer(writer: asyncio.StreamWriter, method: str, target: str, asked: bytes) -> None:
    """Answer one request."""
    path, _, query = target.partition("?")
    if (method, path) == ("GET", "/ready"):
        await send(writer, "200 OK", "application/json", b'{"status": "ready"}')
    elif (method, path) == ("POST", "/inference"):
        text = "".join(ANSWER)
        body = {"output": text, "tokenLength": str(len(ANSWER)), "elapsedTime": "0.0", "tokenPerSec": "0"}
        await send(writer, "200 OK", "application/json", json.dumps(body, ensure_ascii=False).encode())
    elif (method, path) == ("POST", "/chat/completions") and b'"stream":true' in asked.replace(b" ", b""):
        await stream(writer, chunks())
    elif (method, path) == ("POST", "/embeddings/QuestionAnswer") and "stream=true" in query:
        await stream(writer, events())
    else:
        body = {"error": {"message": f"no {method} {path} here", "type": "not_found", "code": 404}}
        await send(writer, "404 Not Found", "application/json", json.dumps(body).encode())


async def events() -> AsyncIterator[bytes]:
    """Yield the answer as an event stream, a piece each 0.2 s."""
    for piece in ANSWER:
        yield f"event:add\nid:1\ndata: {piece}\n\n".encode()
        await asyncio.sleep(0.2)
    usage = {"prompt_tokens": 1, "completion_tokens": len(ANSWER), "total_tokens": len(ANSWER) + 1}
    meta = {"request_id": "1", "task_id": "1", "task_status": "SUCCESS", "usage": usage}
    yield f"event:finish\nid:1\ndata:\nmeta:{json.dumps(meta)}\n\n".encode()


async def chunks() -> AsyncIterator[bytes]:
    """Yield the answer as OpenAI's clients expect it, a piece each 0.2 s."""
    for piece in ANSWER:
        choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
        chunk = {"id": "1", "object": "chat.completion.chunk", "choices": [choice]}
        yield f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()
        await asyncio.sleep(0.2)
    yield b"data: [DONE]\n\n"


async def send(writer: asyncio.StreamWriter, status: str, content_type: str, body: bytes) -> None:
    """Send a whole answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


async def stream(writer: asyncio.StreamWriter, pieces: AsyncIterator[bytes]) -> None:
    """Send an answer in chunks."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    async for piece in pieces:
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def main(address: str) -> None:
    """Serve until ended."""
    host, _, port = address.rpartition(":")
    server = await asyncio.start_server(handle, host, int(port))
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8000"))
    except KeyboardInterrupt:
        pass
    except OSError as error:
        sys.exit(f"stand_in: {error}")
