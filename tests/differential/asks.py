"""The table of requests: each by a name, as the bytes that a caller sends."""

from __future__ import annotations

from tests.differential.exchange import Case, Pause

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "QUERY", "get", "M-SEARCH"]

TARGETS = [
    "", "a/b/c", "a?x=1&y=2", "a?", "?", "?x=1", "a??b", "a?b?c=d", "a?x=%2F&y=%20&z=+", "a?q={x}&r=[1]|^`", "a//b",
    "/a", "a/", "a//", "https://x/a", "a%2Fb", "a%2fb", "s3%3A%2F%2Fb%2Fm", "a%5Bb%5D", "a[b]", "a%7Eb", "a%41b",
    "a%2Eb",
    "a%20b", "a%3Fb", "a%23b", "a%25b", "a%2525b", "a%3Ab%40c", "a%2Bb+c", "a%26b%3Dc", "a%3Bb;c", "a%22b", "a%5Cb",
    "a%7Cb", "a%3Cb%3E", "a%0D%0AX-Evil:%201", "a%09b", "a%7Fb", "%E4%BD%A0", "%e4%bd%a0", "a%FFb", "a:b@c!$&'()*,=",
    "a~b-c_d.e", "./a", "a/./b", "a/../b", "a/%2e%2e/b", "..", "../../..", "../x", "..%2Fx", "a/../../x",
    "../../../../x", "...", "a#b", "a?b#c",
    "a%00b", "a%zz", "a%4", 'a"b<c>', "a\\b", "a{b}|^`", "\xe4\xbd\xa0", "a;v=1/b", "x" * 7000, "x" * 20_000,
    "x" * 70_000, "a?" + "q" * 7000,
]  # fmt: skip

FIELDS = {
    "lower case": ["x-custom: a"],
    "upper case": ["X-CUSTOM: a"],
    "underscore": ["serve_multiplexed_model_id: m"],
    "dot": ["x.custom: a"],
    "every other tchar": ["!#$%&'*+-.^_`|~: a"],
    "a tchar alone": ["~: a"],
    "digit first": ["1-x: a"],
    "empty value": ["X-Empty:"],
    "no blank before the value": ["X-Tight:a"],
    "blanks around the value": ["X-Wide: \t a  "],
    "blanks within the value": ["X-Within: a \t  b"],
    "UTF-8": ["X-Name: \xc3\xbc"],
    "Latin-1": ["X-Name: \xfc"],
    "dollar and quotes": ["X-Name: $host \"a\\\" 'b' {c}"],
    "one name twice": ["X-Twice: a", "X-Twice: b", "x-twice: c"],
    "of 7 kB": ["X-Big: " + "a" * 7_000],
    "of 20 kB": ["X-Big: " + "a" * 20_000],
    "of 60 kB": ["X-Big: " + "a" * 60_000],
    "of 70 kB": ["X-Big: " + "a" * 70_000],
    "50 kB in all": [f"X-Big-{n}: " + "a" * 10_000 for n in range(5)],
    "70 kB in all": [f"X-Big-{n}: " + "a" * 10_000 for n in range(7)],
    "a hundred": [f"X-{n}: {n}" for n in range(100)],
    "Accept and the like": ["Accept: text/html;q=0.8, */*", "Accept-Encoding: gzip, br", "Accept-Language: de"],
    "Authorization": ["Authorization: Bearer x", "Proxy-Authorization: Basic eDp5"],
    "Authorization twice": ["Authorization: Bearer x", "Authorization: Bearer y"],
    "If-None-Match twice": ['If-None-Match: "a"', 'If-None-Match: "b"'],
    "Cookie": ["Cookie: a=b; c=d"],
    "Cookie twice": ["Cookie: a=b", "Cookie: c=d"],
    "Range": ["Range: bytes=0-1", 'If-Range: "a"'],
    "conditions": ['If-None-Match: "a"', "If-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT", 'If-Match: "b"'],
    "Origin": ["Origin: http://front.test", "Referer: http://front.test/a", "Sec-Fetch-Mode: cors"],
    "Via": ["Via: 1.1 front", "Forwarded: for=192.0.2.7"],
    "traceparent": ["traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "X-Request-ID: a"],
    "X-Forwarded-For": ["X-Forwarded-For: 192.0.2.7"],
    "X-Forwarded-For twice": ["X-Forwarded-For: 192.0.2.7", "X-Forwarded-For: 192.0.2.8"],
    "X-Forwarded-Proto": ["X-Forwarded-Proto: https", "X-Forwarded-Port: 443"],
    "X-Forwarded-Host": ["X-Forwarded-Host: front.test"],
    "X-Forwarded-Prefix": ["X-Forwarded-Prefix: /outer"],
    "underscores for hyphens": ["X_Forwarded-For: 192.0.2.7"],
    "X-Real-IP": ["X-Real-IP: 192.0.2.7"],
    "Ray's orders": ["x-request-timeout-seconds: 9", "x-request-disconnect-disabled: ?1"],
    "X-Accel": ["X-Accel-Redirect: /x", "X-Accel-Buffering: no"],
    "Connection: close": ["Connection: close"],
    "Connection: keep-alive": ["Connection: keep-alive", "Keep-Alive: timeout=5"],
    "Connection names a field": ["Connection: close, X-Hop", "X-Hop: a"],
    "TE: trailers": ["TE: trailers", "Connection: TE"],
    "TE: gzip": ["TE: gzip", "Connection: TE"],
    "Proxy-Connection": ["Proxy-Connection: keep-alive"],
    "Trailer without one": ["Trailer: X-Sum"],
    "Upgrade: websocket": [
        "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Extensions: x",
    ],
    "Upgrade: WebSocket, Connection in lower case": ["connection: keep-alive, upgrade", "upgrade: WebSocket"],
    "Upgrade: websocket without Connection": ["Upgrade: websocket"],
    "Upgrade: h2c": ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"],
    "Upgrade: TLS/1.0": ["Connection: Upgrade", "Upgrade: TLS/1.0"],
    "Upgrade: websocket, h2c": ["Connection: Upgrade", "Upgrade: websocket, h2c"],
    "Max-Forwards": ["Max-Forwards: 0"],
    "Expect: something else": ["Expect: something"],
    "Early-Data": ["Early-Data: 1"],
    "Content-Type without a body": ["Content-Type: text/plain"],
    "folded": ["X-Fold: a", " b"],
    "blank before the colon": ["X-Bad : a"],
    "blank within the name": ["X Bad: a"],
    "no colon": ["X-Bad"],
    "no name": [": a"],
    "bracket in the name": ["X[0]: a"],
    "NUL in the value": ["X-Bad: a\0b"],
    "bare CR in the value": ["X-Bad: a\rb"],
    "control character in the value": ["X-Bad: a\x01b"],
    "control character in the name": ["X\x01Bad: a"],
    "Host twice": ["Host: other.test"],
    "Content-Length twice, the same": ["Content-Length: 0", "Content-Length: 0"],
    "Content-Length twice, different": ["Content-Length: 5", "Content-Length: 0"],
    "Content-Length: +0": ["Content-Length: +0"],
    "Content-Length: a list": ["Content-Length: 0, 0"],
    "Content-Length: 0x0": ["Content-Length: 0x0"],
    "Transfer-Encoding: gzip": ["Transfer-Encoding: gzip"],
    "Transfer-Encoding: identity": ["Transfer-Encoding: identity"],
}  # fmt: skip

LARGE = b"a" * 70_000
CHUNKED = "Transfer-Encoding: chunked"


def ask(*lines: str, body: bytes = b"", line: str = "POST §/a HTTP/1.1", host: str = "Host: model.test") -> bytes:
    """Return a request's bytes; without a host where that is empty."""
    head = "\r\n".join([line, *filter(None, [host]), *lines, "", ""])
    return head.encode("latin-1") + body


BODIES = {
    "length": (ask("Content-Length: 5", body=b"abcde"),),
    "length, Connection: close": (ask("Content-Length: 5", "Connection: close", body=b"abcde"),),
    "length: 0": (ask("Content-Length: 0"),),
    "no length": (ask(),),
    "a GET's": (ask("Content-Length: 5", line="GET §/a HTTP/1.1", body=b"abcde"),),
    "binary": (ask("Content-Length: 256", body=bytes(range(256))),),
    "of 60 kB": (ask("Content-Length: 60000", body=b"a" * 60_000),),
    "too large": (ask("Content-Length: 70000", body=b"a" * 70_000),),
    "coded": (ask("Content-Length: 3", "Content-Encoding: gzip", "Content-Type: text/x; a=b", body=b"\x1f\x8b\x00"),),
    "multipart": (ask("Content-Length: 5", 'Content-Type: multipart/form-data; boundary="b"', body=b"--b--"),),
    "chunks": (ask(CHUNKED, body=b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),),
    "no chunk": (ask(CHUNKED, body=b"0\r\n\r\n"),),
    "a GET's chunks": (ask(CHUNKED, line="GET §/a HTTP/1.1", body=b"3\r\nabc\r\n0\r\n\r\n"),),
    "chunk extensions": (ask(CHUNKED, body=b"3;a=b\r\nabc\r\n0;c\r\n\r\n"),),
    "chunks and a trailer": (ask(CHUNKED, "Trailer: X-Sum", body=b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"),),
    "chunks in pieces": (ask(CHUNKED), b"5\r\nfirst\r\n", Pause.GATE, b"3\r\nabc\r\n0\r\n\r\n"),
    "length in pieces": (ask("Content-Length: 8"), b"first", Pause.GATE, b"abc"),
    "too large in chunks": (ask(CHUNKED), b"5\r\nfirst\r\n", Pause.GATE, b"11170\r\n%b\r\n0\r\n\r\n" % LARGE),
    "Transfer-Encoding: Chunked": (ask("transfer-encoding: Chunked", body=b"3\r\nabc\r\n0\r\n\r\n"),),
    "gzip, chunked": (ask("Transfer-Encoding: gzip, chunked", body=b"3\r\nabc\r\n0\r\n\r\n"),),
    "chunked twice": (ask(CHUNKED, CHUNKED, body=b"3\r\nabc\r\n0\r\n\r\n"),),
    "chunked and length": (ask(CHUNKED, "Content-Length: 5", body=b"3\r\nabc\r\n0\r\n\r\n"),),
    "a bad chunk": (ask(CHUNKED, body=b"xyz\r\nabc\r\n0\r\n\r\n"),),
    "Expect": (ask("Content-Length: 5", "Expect: 100-continue"), Pause.CONTINUE, b"abcde"),
    "Expect and chunks": (
        ask(CHUNKED, "Expect: 100-continue"), Pause.CONTINUE, b"5\r\nfirst\r\n", Pause.GATE, b"0\r\n\r\n",
    ),
    "Expect and too large": (ask("Content-Length: 70000", "Expect: 100-continue"), Pause.CONTINUE, b"a" * 70_000),
}  # fmt: skip

LINES = {
    "HTTP/1.0": (ask(line="GET §/a HTTP/1.0"),),
    "HTTP/1.0 without Host": (ask(line="GET §/a HTTP/1.0", host=""),),
    "HTTP/1.0, keep-alive": (ask("Connection: keep-alive", line="GET §/a HTTP/1.0"),),
    "HTTP/1.0 with a body": (ask("Content-Length: 2", line="POST §/a HTTP/1.0", body=b"ab"),),
    "HTTP/1.2": (ask(line="GET §/a HTTP/1.2"),),
    "HTTP/2.0": (ask(line="GET §/a HTTP/2.0"),),
    "HTTP/0.9": ("GET §/a\r\n".encode("latin-1"),),
    "no Host": (ask(line="GET §/a HTTP/1.1", host=""),),
    "Host with a port": (ask(line="GET §/a HTTP/1.1", host="Host: Model.Test:8080"),),
    "Host of IPv6": (ask(line="GET §/a HTTP/1.1", host="Host: [::1]:8080"),),
    "Host empty": (ask(line="GET §/a HTTP/1.1", host="Host:"),),
    "Host with a path": (ask(line="GET §/a HTTP/1.1", host="Host: a/b"),),
    "Host with an underscore": (ask(line="GET §/a HTTP/1.1", host="Host: my_model"),),
    "absolute form": (ask(line="GET http://model.test§/a?b HTTP/1.1"),),
    "absolute form, other host": (ask(line="GET http://other.test§/a HTTP/1.1"),),
    "CONNECT": (ask(line="CONNECT model.test:443 HTTP/1.1"),),
    "two blanks": (ask(line="GET  §/a HTTP/1.1"),),
    "blank within the target": (ask(line="GET §/a b HTTP/1.1"),),
    "blank lines before": (b"\r\n\r\n" + ask(line="GET §/a HTTP/1.1"),),
    "line ends without CR": ("GET §/a HTTP/1.1\nHost: model.test\n\n".encode("latin-1"),),
    "a bad method": (ask(line="G[T §/a HTTP/1.1"),),
    "pipelined": (ask(line="GET §/a HTTP/1.1") + ask(line="GET §/b HTTP/1.1"),),
    "pipelined after a body": (ask("Content-Length: 3", body=b"abc") + ask(line="GET §/b HTTP/1.1"),),
}


def asks() -> dict[str, Case]:
    """Return the whole table."""
    found = {f"method {method}": Case((ask(line=f"{method} §/a HTTP/1.1"),)) for method in METHODS}
    found |= {f"target {_short(tail)}": Case((ask(line=f"GET §/{tail} HTTP/1.1"),)) for tail in TARGETS}
    found |= {f"field: {name}": Case((ask(*lines, line="GET §/a HTTP/1.1"),)) for name, lines in FIELDS.items()}
    found |= {f"body: {name}": Case(sends) for name, sends in BODIES.items()}
    found |= {f"line: {name}": Case(sends, requests=2 if "pipelined" in name else 1) for name, sends in LINES.items()}
    return found


def _short(tail: str) -> str:
    shown = tail.encode("latin-1").decode("utf-8", "backslashreplace")
    return f"/{shown}" if len(shown) < 40 else f"/{shown[:4]}... of {len(shown)} bytes"
