"""What is wrong with a request or an answer, by the RFCs and the documented limits: why a proxy may refuse it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain

from tests.differential.exchange import HERE, Case
from tests.differential.target import without_dots
from tests.differential.ways import MAX_BODY

ELSEWHERE = "its path leads out of its route"
PREFIX = "/apis/rayservice/chat/"
HEAD = 64 * 1024  # bytes of a request's line and fields
ANSWER = 64 * 1024  # bytes of an answer's head


ONCE = (
    b"authorization", b"content-range", b"expect", b"if-match", b"if-none-match", b"if-range", b"if-modified-since",
    b"if-unmodified-since",
)  # fmt: skip

_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_ESCAPES = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def of_request(case: Case) -> str:
    """Return what is wrong with the request, or "" for nothing."""
    line, *lines = case.head.lstrip(b"\r\n").split(b"\r\n")
    checks = (_of_line(line), _of_lines(lines), _of_host(line, lines), _of_framing(case, lines), _of_path(line))
    return next(chain(*checks), "")


def of_answer(case: Case) -> str:
    """Return what is wrong with the model's answer, or "" for nothing."""
    answer = b"".join(part for part in case.script if isinstance(part, bytes))
    if not re.search(rb"HTTP/[0-9.]+$", case.head.lstrip().split(b"\r\n")[0]):
        return "it is asked for in HTTP/0.9"
    if not answer:
        return "the model closes the connection without an answer"
    head, end, body = answer.partition(b"\r\n\r\n")
    _, *lines = head.split(b"\r\n")
    if _values(lines, b"x-accel-redirect"):
        return "it asks for `X-Accel-Redirect`"
    if not end and b"\n\n" not in answer and answer.startswith(b"HTTP/"):
        return "its head is cut"
    if len(head) > ANSWER - 1024:
        return "its head is over 64 kB"
    return next(chain(_of_lines(lines), _of_answers_framing(lines, body)), "")


def _of_line(line: bytes) -> Iterator[str]:
    method, _, rest = line.partition(b" ")
    target, _, version = rest.strip().rpartition(b" ")
    path = target.partition(b"#")[0].partition(b"?")[0]
    if method in (b"CONNECT", b"TRACE"):
        yield f"{method.decode()} ends here"
    if not re.fullmatch(rb"[A-Z_-]+", method):
        yield "its method has other characters than capitals, `_` and `-`"
    if len(line) > HEAD:
        yield "its line is over 64 kB"
    if b" " in target:
        yield "a blank in its target"
    if _ESCAPES.search(path):
        yield "an escape in its path that is none"
    if b"%00" in path:
        yield "NUL in its path"
    if not version.startswith(b"HTTP/1."):
        yield "its version is not HTTP/1"


def _of_path(line: bytes) -> Iterator[str]:
    path = line.split(b" ")[1].partition(b"#")[0].partition(b"?")[0]
    decoded = re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes.fromhex(found[1].decode()), path)
    depth = lowest = 3  # /apis/rayservice/chat
    for segment in decoded.partition(HERE)[2].split(b"/"):
        depth += {b"..": -1, b".": 0}.get(segment, 1)
        lowest = min(lowest, depth)
    if lowest < 0:
        yield "its path leads above the root"
    if lowest < 3 and not without_dots(f"{PREFIX}{decoded.partition(HERE)[2].decode('latin-1')}").startswith(PREFIX):
        yield ELSEWHERE


def _of_lines(lines: list[bytes]) -> Iterator[str]:
    for line in lines:
        name, colon, value = line.partition(b":")
        if line[:1] in (b" ", b"\t"):
            yield "a folded line"
        elif colon and (not name or any(byte <= 0x20 or byte == 0x7F for byte in name)):
            yield "a field's name with a blank or a control character, or none at all"
        elif b"\0" in value or b"\r" in value or b"\n" in value:
            yield "NUL or a line's end in a value"


def _of_host(line: bytes, lines: list[bytes]) -> Iterator[str]:
    if len(b"\r\n".join(lines)) > HEAD:
        yield "its fields are over 64 kB"
    if any(len(_values(lines, name)) > 1 for name in ONCE):
        yield "a field twice that can be there once (`Authorization`, `If-...`)"
    hosts = _values(lines, b"host")
    if len(hosts) > 1:
        yield "Host twice"
    if not hosts and line.endswith(b"HTTP/1.1"):
        yield "no Host"
    if not hosts and line.endswith(b"HTTP/1.0"):
        yield "HTTP/1.0 without Host"
    if hosts and not _HOST.fullmatch(hosts[0]):
        yield "a Host that is none"


def _of_framing(case: Case, lines: list[bytes]) -> Iterator[str]:
    codings, lengths = _values(lines, b"transfer-encoding"), _values(lines, b"content-length")
    body = b"".join(part for part in case.sends if isinstance(part, bytes)).partition(b"\r\n\r\n")[2]
    if codings and lengths:
        yield "Content-Length beside Transfer-Encoding"
    if len(codings) > 1 or (codings and codings[0].lower() != b"chunked"):
        yield "a Transfer-Encoding other than `chunked`"
    if len(lengths) > 1 or (lengths and not lengths[0].isdigit()):
        yield "a Content-Length that is no number, or twice"
    if codings and not re.match(rb"[0-9A-Fa-f]+[;\r]", body or b"0\r"):
        yield "a chunk that is none"
    if len(body) > MAX_BODY:
        yield "a body over RAYPROXY_MAX_BODY"


def _of_answers_framing(lines: list[bytes], body: bytes) -> Iterator[str]:
    codings, lengths = _values(lines, b"transfer-encoding"), _values(lines, b"content-length")
    if codings and lengths:
        yield "Content-Length beside Transfer-Encoding"
    if codings and codings[0].lower() != b"chunked":
        yield "a Transfer-Encoding other than `chunked`"
    if len(lengths) > 1:
        yield "Content-Length twice"
    if codings and not re.match(rb"[0-9A-Fa-f]+[;\r]", body or b"0\r"):
        yield "a chunk that is none"
    if lengths and lengths[0].isdigit() and len(body) > int(lengths[0]):
        yield "more than its Content-Length"


def _values(lines: list[bytes], name: bytes) -> list[bytes]:
    fields = (line.partition(b":") for line in lines)
    return [value.strip(b" \t") for key, _, value in fields if key.lower() == name]
