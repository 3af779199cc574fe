"""The table of answers: each by a name, as the bytes that a model sends."""

from __future__ import annotations

from tests.differential.asks import ask
from tests.differential.exchange import Case
from tests.differential.recorder import Script, Step

STATUSES = [
    "200 OK", "200", "200 ", "200 Fine by me", "201 Created", "202 X", "203 X", "206 X", "226 X", "299 X",
    "300 X", "400 X", "401 X", "402 X", "403 X", "404 X", "405 X", "408 X", "409 X", "410 X", "411 X",
    "413 X", "414 X", "415 X", "416 X", "417 X", "418 X", "421 X", "422 X", "425 X", "426 X", "429 X",
    "431 X", "444 X", "451 X", "494 X", "495 X", "497 X", "499 X", "500 X", "501 X", "502 X", "503 X",
    "504 X", "507 X", "508 X", "511 X", "599 X", "600 X", "799 X", "999 X",
]  # fmt: skip

FIELDS = {
    "Server": ["Server: uvicorn"],
    "Date": ["Date: Thu, 01 Jan 2026 00:00:00 GMT"],
    "underscore": ["x_custom: a"],
    "every other tchar": ["!#$%&'*+-.^_`|~: a"],
    "a tchar alone": ["~: a"],
    "upper case": ["X-CUSTOM: a"],
    "empty value": ["X-Empty:"],
    "blanks around the value": ["X-Wide: \t a  "],
    "no blank before the value": ["X-Tight:a"],
    "UTF-8": ["X-Name: \xc3\xbc"],
    "one name twice": ["X-Twice: a", "X-Twice: b"],
    "Set-Cookie twice": ["Set-Cookie: a=b; Path=/; HttpOnly", "Set-Cookie: c=d; Path=/apis; Domain=x.test"],
    "Cache-Control": ["Cache-Control: no-store", "Expires: 0", "Pragma: no-cache", "Age: 3", "Vary: Accept, Origin"],
    "Cache-Control twice": ["Cache-Control: private", "Cache-Control: max-age=1"],
    "ETag": ['ETag: W/"a"', "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT", "Accept-Ranges: bytes"],
    "Last-Modified that is no date": ["Last-Modified: yesterday"],
    "Content-Encoding": ["Content-Encoding: gzip"],
    "Content-Language": ["Content-Language: de", "Content-Disposition: attachment; filename=a"],
    "CORS": ["Access-Control-Allow-Origin: *", "Access-Control-Expose-Headers: X-A"],
    "WWW-Authenticate": ["WWW-Authenticate: Bearer", 'WWW-Authenticate: Basic realm="a"'],
    "Link": ["Link: </a.css>; rel=preload", "Link: </b.css>; rel=preload"],
    "Via": ["Via: 1.1 inner"],
    "Retry-After": ["Retry-After: 7"],
    "Content-Security-Policy": ["Content-Security-Policy: default-src 'self'", "X-Content-Type-Options: nosniff"],
    "Strict-Transport-Security": ["Strict-Transport-Security: max-age=1", "Alt-Svc: h3"],
    "for the whole origin": [f"{name}: a" for name in (
        "Public-Key-Pins", "Expect-CT", "NEL", "Report-To", "Accept-CH", "Set-Login", "Use-As-Dictionary",
        "Sec-Session-Registration", "Secure-Session-Registration",
    )],
    "for its answer alone": ["Reporting-Endpoints: a", "Origin-Agent-Cluster: ?1", "Permissions-Policy: a=()"],
    "WWW-Authenticate: Bearer": ['WWW-Authenticate: Bearer realm="a", error="b"'],
    "WWW-Authenticate: Basic": ['WWW-Authenticate: Basic realm="a"'],
    "Service-Worker-Allowed": ["Service-Worker-Allowed: /", 'Clear-Site-Data: "cookies"'],
    "Connection: close": ["Connection: close"],
    "Connection: keep-alive": ["Connection: keep-alive", "Keep-Alive: timeout=5"],
    "Connection names a field": ["Connection: X-Hop", "X-Hop: a"],
    "Proxy-Connection": ["Proxy-Connection: keep-alive"],
    "Proxy-Authenticate": ["Proxy-Authenticate: Basic"],
    "Upgrade offered": ["Upgrade: h2c", "Connection: Upgrade"],
    "Trailer without one": ["Trailer: X-Sum"],
    "X-Accel-Buffering": ["X-Accel-Buffering: no"],
    "X-Accel-Buffering: yes": ["X-Accel-Buffering: yes"],
    "X-Accel-Redirect": ["X-Accel-Redirect: /-/healthz"],
    "X-Accel-Redirect to a path": ["X-Accel-Redirect: /apis/rayservice/chat/other"],
    "X-Accel-Expires": ["X-Accel-Expires: 1"],
    "X-Accel-Limit-Rate": ["X-Accel-Limit-Rate: 100000"],
    "X-Accel-Charset": ["X-Accel-Charset: koi8-r"],
    "X-Pad": ["X-Pad: a"],
    "Status": ["Status: 404 Not Found"],
    "of 3 kB": ["X-Big: " + "a" * 3_000],
    "three of 1.5 kB": [f"X-Big-{n}: " + "a" * 1_500 for n in range(3)],
    "of 30 kB": ["X-Big: " + "a" * 30_000],
    "60 kB in all": [f"X-Big-{n}: " + "a" * 10_000 for n in range(6)],
    "of 70 kB": ["X-Big: " + "a" * 70_000],
    "a hundred": [f"X-{n}: {n}" for n in range(100)],
    "folded": ["X-Fold: a", " b"],
    "blank before the colon": ["X-Bad : a"],
    "blank within the name": ["X Bad: a"],
    "no colon": ["X-Bad"],
    "NUL in the value": ["X-Bad: a\0b"],
    "bare CR in the value": ["X-Bad: a\rb"],
    "Content-Length twice, the same": ["Content-Length: 2"],
    "Content-Length twice, different": ["Content-Length: 1"],
    "Transfer-Encoding: gzip": ["Transfer-Encoding: gzip"],
    **{f"{name} twice": [f"{name}: a", f"{name}: b"] for name in (
        "Age", "Content-Encoding", "Content-Language", "Content-Location", "Content-Type", "Date", "ETag", "Expires",
        "Last-Modified", "Location", "Refresh", "Retry-After", "Server", "Vary",
    )},
}  # fmt: skip

TYPES = [
    "application/json", "text/plain; charset=utf-8", "text/plain;charset=UTF-8",
    'text/plain; charset="utf-8"', "text/html", "text/html; charset=utf-8; x=y",
    'text/html; charset="utf-8"; x="y"', "text/event-stream", "image/png", "audio/wav", "image/svg+xml",
    "application/problem+json", "application/octet-stream", "multipart/mixed; boundary=b", "TEXT/HTML",
    "text/html; x=y; charset=utf-8", "application/x-ndjson", "application/javascript", "",
]  # fmt: skip

PLACES = [
    "http://model.test/items/", "https://model.test/items/", "/items/", "/apis/rayservice/chat/items/", "items/",
    "?a=b", "//model.test/items/", "http://other.test/items/", "http://model.test:8000/items/", "http://model.test",
    "/", "#a", "http://MODEL.test/items/", "/a b", "/a?next=http://model.test/", "mailto:a@b", "",
    "/apis/rayservice/other/x", "http://model.test/apis/rayservice/chat/items/",
]  # fmt: skip

CHUNKS = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


def head(*lines: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    """Return the head of an answer."""
    return "\r\n".join([status, *lines, "", ""]).encode("latin-1")


def sized(*lines: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    """Return an answer with a body of two bytes."""
    return head("Content-Type: text/plain", "Content-Length: 2", *lines, status=status) + b"ok"


TEXT, CHUNKED = "Content-Type: text/plain", "Transfer-Encoding: chunked"
STREAM = "Content-Type: text/event-stream"
HINTS = "HTTP/1.1 103 Early Hints"

FRAMES: dict[str, Script] = {
    "chunks": (head(TEXT, CHUNKED) + CHUNKS,),
    "no chunk": (head(TEXT, CHUNKED) + b"0\r\n\r\n",),
    "chunk extensions": (head(TEXT, CHUNKED) + b"3;a=b\r\nabc\r\n0\r\n\r\n",),
    "chunks and a trailer": (head(TEXT, CHUNKED, "Trailer: X-Sum") + b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",),
    "chunks and a length": (head(TEXT, "Content-Length: 5", CHUNKED) + CHUNKS,),
    "Transfer-Encoding: Chunked": (head(TEXT, "transfer-encoding: Chunked") + CHUNKS,),
    "to the end": (head(TEXT) + b"abcde", Step.CLOSE),
    "to the end, said": (head(TEXT, "Connection: close") + b"abcde", Step.CLOSE),
    "length: 0": (head(TEXT, "Content-Length: 0"),),
    "binary": (head("Content-Type: a/b", "Content-Length: 256") + bytes(range(256)),),
    "of 1 MB": (head(TEXT, "Content-Length: 1000000") + b"a" * 1_000_000,),
    "line ends without CR": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",),
    "HTTP/1.0": (sized(status="HTTP/1.0 200 OK"),),
    "HTTP/1.0 to the end": (head(TEXT, status="HTTP/1.0 200 OK") + b"abcde", Step.CLOSE),
    "HTTP/1.2": (sized(status="HTTP/1.2 200 OK"),),
    "HTTP/2.0": (sized(status="HTTP/2.0 200 OK"),),
    "cut body": (head(TEXT, "Content-Length: 10") + b"abc", Step.CLOSE),
    "cut chunks": (head(TEXT, CHUNKED) + b"3\r\nabc\r\n", Step.CLOSE),
    "cut within a chunk": (head(TEXT, CHUNKED) + b"9\r\nabc", Step.CLOSE),
    "cut after a piece": (head(TEXT, "Content-Length: 10") + b"first", Step.GATE, Step.CLOSE),
    "reset after a piece": (head(TEXT, CHUNKED) + b"5\r\nfirst\r\n", Step.GATE, Step.RESET),
    "bad chunk": (head(TEXT, CHUNKED) + b"xyz\r\nabc\r\n", Step.CLOSE),
    "more than its length": (sized() + b"more", Step.CLOSE),
    "cut head": (b"HTTP/1.1 200 OK\r\nContent-Ty", Step.CLOSE),
    "reset within the head": (b"HTTP/1.1 200 OK\r\nContent-Ty", Step.RESET),
    "closed without an answer": (Step.CLOSE,),
    "reset without an answer": (Step.RESET,),
    "100 first": (head(status="HTTP/1.1 100 Continue") + sized(), Step.CLOSE),
    "102 first": (head(status="HTTP/1.1 102 Processing") + sized(), Step.CLOSE),
    "103 first": (head("Link: </a.css>; rel=preload", status=HINTS) + sized("X-A: b"), Step.CLOSE),
    "103 twice": (head("X-A: 1", status=HINTS) + head("X-A: 2", status=HINTS) + sized(), Step.CLOSE),
    "204": (head("X-A: b", status="HTTP/1.1 204 No Content"),),
    "204 with a length": (head("Content-Length: 0", status="HTTP/1.1 204 No Content"),),
    "205": (head("Content-Length: 0", status="HTTP/1.1 205 Reset Content"),),
    "304": (head('ETag: "a"', "Content-Length: 9", TEXT, status="HTTP/1.1 304 Not Modified"),),
    "304 with chunks announced": (head(CHUNKED, status="HTTP/1.1 304 Not Modified"),),
    "a stream": (head(STREAM, CHUNKED) + b"5\r\nfirst\r\n", Step.GATE, b"3\r\nabc\r\n0\r\n\r\n"),
    "a stream, unbuffered": (
        head(STREAM, CHUNKED, "X-Accel-Buffering: no") + b"5\r\nfirst\r\n", Step.GATE, b"3\r\nabc\r\n0\r\n\r\n",
    ),
    "a stream to the end": (head(STREAM) + b"first", Step.GATE, b"abc", Step.CLOSE),
    "a length in pieces": (head(TEXT, "Content-Length: 8") + b"first", Step.GATE, b"abc"),
}  # fmt: skip

ODD: dict[str, Script] = {
    "no status line": (b"hello\r\n\r\n", Step.CLOSE),
    "a status of two digits": (sized(status="HTTP/1.1 20 OK"), Step.CLOSE),
    "a status of letters": (sized(status="HTTP/1.1 abc OK"), Step.CLOSE),
    "bytes of TLS": (b"\x15\x03\x01\x00\x02\x02\x46", Step.CLOSE),
    "bytes of HTTP/2": (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18), Step.CLOSE),
}

UPGRADE = ask("Connection: Upgrade", "Upgrade: websocket", line="GET §/ws HTTP/1.1")
SWITCH = head("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: x", status="HTTP/1.1 101 Switching")
GET, HEAD, OLD = (ask(line=line) for line in ("GET §/a HTTP/1.1", "HEAD §/a HTTP/1.1", "GET §/a HTTP/1.0"))
LAST = ask("Connection: close", line="GET §/a HTTP/1.1")

OTHERS = {
    "HEAD with a length": Case((HEAD,), (head(TEXT, "Content-Length: 1000"),)),
    "HEAD with chunks": Case((HEAD,), (head(TEXT, CHUNKED),)),
    "HEAD without either": Case((HEAD,), (head(TEXT), Step.CLOSE)),
    "HEAD and a 404": Case((HEAD,), (head(TEXT, "Content-Length: 9", status="HTTP/1.1 404 X"),)),
    "to HTTP/1.0: chunks": Case((OLD,), (head(TEXT, CHUNKED) + CHUNKS,)),
    "to HTTP/1.0: length": Case((OLD,), (sized(),)),
    "to HTTP/1.0: to the end": Case((OLD,), (head(TEXT) + b"abcde", Step.CLOSE)),
    "101 and bytes": Case((UPGRADE, b"ping"), (SWITCH, b"hello", Step.ECHO, Step.CLOSE)),
    "101 that nobody asked for": Case((LAST,), (SWITCH, b"hello", Step.CLOSE)),
    "101 refused": Case((UPGRADE,), (sized(status="HTTP/1.1 426 Upgrade Required"),)),
    "413 and the end": Case((ask("Content-Length: 3", body=b"abc"),), (sized(status="HTTP/1.1 413 X"), Step.CLOSE)),
}  # fmt: skip


def answers() -> dict[str, Case]:
    """Return the whole table."""
    scripts: dict[str, Script] = {f"status {status}": (sized(status=f"HTTP/1.1 {status}"),) for status in STATUSES}
    scripts |= {f"field: {name}": (sized(*lines),) for name, lines in FIELDS.items()}
    scripts |= {f"type: {value}": (head(f"Content-Type: {value}", "Content-Length: 2") + b"ok",) for value in TYPES}
    scripts["type: none"] = (head("Content-Length: 2") + b"ok",)
    scripts |= {f"Location: {place}": (_redirect(f"Location: {place}"),) for place in PLACES}
    scripts |= {f"Refresh: {place}": (sized(f"Refresh: 0; url={place}"),) for place in PLACES[:4]}
    scripts |= {f"Content-Location: {place}": (sized(f"Content-Location: {place}"),) for place in PLACES[:4]}
    scripts |= {
        f"{status} with a Location": (sized("Location: /x", status=f"HTTP/1.1 {status} X"),)
        for status in (201, 301, 302, 303, 308)
    }
    scripts |= {f"frame: {name}": script for name, script in FRAMES.items()}
    found = {name: Case((GET,), script) for name, script in scripts.items()}
    return found | {f"frame: {name}": Case((LAST,), script) for name, script in ODD.items()} | OTHERS


def _redirect(line: str) -> bytes:
    return head(line, "Content-Length: 0", status="HTTP/1.1 307 Temporary Redirect")
