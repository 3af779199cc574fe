"""Server-sent events: the frames, and the headers that keep proxies from holding them back."""

from __future__ import annotations

import json
import re
from typing import Any

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
LINE_END = re.compile(r"\r\n|\r|\n")


def to_json(value: Any) -> str:  # noqa: ANN401 - whatever JSON can say
    """Return compact JSON, Chinese and emoji as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def data(value: dict[str, Any]) -> bytes:
    """Return one event of JSON."""
    return f"data: {to_json(value)}\n\n".encode()


def event(name: str, event_id: str, text: str, **fields: str) -> bytes:
    """Return one named event of raw text: a line of it to each `data` line, one blank before each."""
    lines = [f"event:{name}", f"id:{event_id}"]
    lines += [f"data: {line}" for line in LINE_END.split(text)]
    lines += [f"{key}:{value}" for key, value in fields.items()]
    return ("\n".join(lines) + "\n\n").encode()
