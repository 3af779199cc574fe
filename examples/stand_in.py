"""A stand-in for a model server: answers the documented calls at once, streams in pieces, knows nothing.

python examples/stand_in.py [address:port]
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator

ANSWER = ["你好", "! I am ", "a stand-in ", "for a model, ", "and this is ", "my stream."]
TEXT = "".join(ANSWER)
NAME = "demo"


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
    path = path.removeprefix("/openai").removeprefix("/v1")  # where OpenAI's clients ask
    asked = asked.replace(b" ", b"")
    if (method, path) == ("GET", "/ready"):
        await send_json(writer, "200 OK", {"status": "ready"})
    elif (method, path) == ("GET", "/models"):
        await send_json(writer, "200 OK", {"object": "list", "data": [{"id": NAME, "object": "model"}]})
    elif (method, path) == ("POST", "/inference"):
        times = {"elapsedTime": "0.0", "elaspedTime": "0.0", "tokenPerSec": "0"}
        await send_json(writer, "200 OK", {"output": TEXT, "tokenLength": str(len(ANSWER)), **times})
    elif (method, path) == ("POST", "/chat/completions") and b'"stream":true' in asked:
        await stream(writer, chunks())
    elif (method, path) == ("POST", "/chat/completions"):
        choice = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
        await send_json(writer, "200 OK", {"id": "1", "object": "chat.completion", "model": NAME, "choices": [choice]})
    elif (method, path) == ("POST", "/embeddings/QuestionAnswer") and "stream=true" in query:
        await stream(writer, events(whole=b'"incremental":false' in asked))
    else:
        error = {"message": f"the stand-in knows no {method} {target}", "type": "not_found", "code": 404}
        await send_json(writer, "404 Not Found", {"error": error})


async def events(*, whole: bool) -> AsyncIterator[bytes]:
    """Yield the answer as an event stream, a piece, or the `whole` text so far, each 0.2 s."""
    for number, piece in enumerate(ANSWER, 1):
        yield f"event:add\nid:1\ndata: {''.join(ANSWER[:number]) if whole else piece}\n\n".encode()
        await asyncio.sleep(0.2)
    usage = {"prompt_tokens": 1, "completion_tokens": len(ANSWER), "total_tokens": len(ANSWER) + 1}
    meta = {"request_id": "1", "task_id": "1", "task_status": "SUCCESS", "usage": usage}
    yield f"event:finish\nid:1\ndata:\nmeta:{json.dumps(meta)}\n\n".encode()


async def chunks() -> AsyncIterator[bytes]:
    """Yield the answer as OpenAI's clients expect it, a piece each 0.2 s."""
    for piece in ANSWER:
        choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
        chunk = {"id": "1", "object": "chat.completion.chunk", "model": NAME, "choices": [choice]}
        yield f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()
        await asyncio.sleep(0.2)
    yield b"data: [DONE]\n\n"


async def send_json(writer: asyncio.StreamWriter, status: str, answer: dict[str, object]) -> None:
    """Send a whole answer."""
    body = json.dumps(answer, ensure_ascii=False).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


async def stream(writer: asyncio.StreamWriter, pieces: AsyncIterator[bytes]) -> None:
    """Send an answer in chunks."""
    # no-transform, as the model server says: a development server that compresses would gather the stream
    fields = b"Content-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\n"
    writer.write(b"HTTP/1.1 200 OK\r\n" + fields + b"Transfer-Encoding: chunked\r\n\r\n")
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
