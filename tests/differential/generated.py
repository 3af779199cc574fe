"""Requests and answers that nobody thought of, for Hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.differential.answers import GET, head
from tests.differential.asks import ask
from tests.differential.exchange import HERE, PLAIN_ANSWER, Case
from tests.differential.recorder import Script, Step

_TCHAR = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PCHAR = "abcXYZ019-._~!$&'()*+,;=:@"
_TOLD = {  # fields that tell a hop something: the tables have them one by one
    "host", "content-length", "transfer-encoding", "expect", "connection", "upgrade", "te", "keep-alive", "trailer",
    "content-type", "date", "server", "location", "refresh", "set-cookie", "content-location", "status", "x-pad",
}  # fmt: skip
_KNOWN = [
    "Accept", "Accept-Encoding", "Authorization", "Cookie", "X-Forwarded-For", "X-Real-IP", "Range", "If-None-Match",
    "Via", "Origin", "User-Agent", "x_under_score", "Cache-Control", "ETag", "Vary", "Link", "Content-Language",
]  # fmt: skip

_names = st.sampled_from(_KNOWN) | st.text(_TCHAR, min_size=1, max_size=20).filter(
    lambda name: name.lower() not in _TOLD and not name.lower().startswith("x-accel-")
)
_values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f§"), max_size=40).map(
    lambda value: value.encode("latin-1").strip(b" \t\xa0\x85").decode("latin-1")
)
_fields = st.lists(st.builds("{}: {}".format, _names, _values), max_size=6)

_escapes = st.integers(0x20, 0xFF).map("%{:02X}".format) | st.integers(0x20, 0xFF).map("%{:02x}".format)
_segments = st.lists(st.text(_PCHAR, max_size=6) | _escapes, max_size=4).map("".join)
_paths = st.lists(_segments | st.sampled_from([".", "..", ""]), max_size=5).map("/".join)
_queries = st.just("") | st.text(_PCHAR + '/?%[]{}|^`"<>\\', max_size=12).map("?{}".format)

_methods = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]) | st.text(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_", min_size=1, max_size=10
).filter(lambda method: method not in {"CONNECT", "TRACE", "HEAD"})
# Without what stands for the base of the paths: it would be put in, and the length be another.
_pieces = st.lists(st.binary(min_size=1, max_size=200).map(lambda piece: piece.replace(HERE[:1], b"S")), max_size=4)


def _chunks(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@st.composite
def asks(draw: st.DrawFn) -> Case:
    """Make a request that is valid HTTP/1.1 or 1.0; its path may lead out of its route."""
    line = f"{draw(_methods)} §/{draw(_paths)}{draw(_queries)} HTTP/1.1"
    pieces, fields = draw(_pieces), draw(_fields)
    match draw(st.sampled_from(["none", "length", "chunked"])):
        case "length":
            body = b"".join(pieces)
            return Case((ask(*fields, f"Content-Length: {len(body)}", line=line, body=body),), (PLAIN_ANSWER,))
        case "chunked":
            return Case(
                (ask(*fields, "Transfer-Encoding: chunked", line=line, body=_chunks(pieces)),), (PLAIN_ANSWER,)
            )
    return Case((ask(*fields, line=line),), (PLAIN_ANSWER,))


@st.composite
def answers(draw: st.DrawFn) -> Case:
    """Make an answer that is valid HTTP/1.1."""
    status = draw(st.integers(200, 599).filter(lambda status: status not in (204, 304)))
    reason = draw(st.text(_PCHAR + " ", max_size=12)).strip()
    pieces, fields = draw(_pieces), [*draw(_fields), "Content-Type: text/plain"]
    script: Script
    match draw(st.sampled_from(["length", "chunked", "close"])):
        case "length":
            body = b"".join(pieces)
            script = (_head(status, reason, *fields, f"Content-Length: {len(body)}"), *pieces)
        case "chunked":
            script = (_head(status, reason, *fields, "Transfer-Encoding: chunked") + _chunks(pieces),)
        case _:
            script = (_head(status, reason, *fields), *pieces, Step.CLOSE)
    return Case((GET,), script)


def _head(status: int, reason: str, *fields: str) -> bytes:
    return head(*fields, status=f"HTTP/1.1 {status} {reason}")
