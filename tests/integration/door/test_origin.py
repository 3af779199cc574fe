"""What a browser keeps for the front end's origin, and what it sends there by itself, is no model's business."""

from __future__ import annotations

import pytest

from rayproxy.nginx.render import ORIGIN_FIELDS
from tests.integration.door.test_fields import sent
from tests.support.raw import OK, nginx_version

BOTH = pytest.mark.parametrize("door", ["prefix", "regex"], indirect=True)
TRUSTED = ["trusted", "team"]
BROWSER = "Cookie", "session=secret"
CALLER = "Authorization", "Bearer secret"


def answered(door, *lines: str, name: str = "chat") -> list[tuple[str, str]]:
    """Let the model answer with these lines; return the fields that come, names in lower case."""
    door.upstream.answer = OK.replace(b"\r\n\r\n", "\r\n".join(["", *lines, "", ""]).encode("latin-1"))
    return [(field.lower(), value) for field, value in door.ask(name=name).fields]


@pytest.mark.fault(85)
@pytest.mark.parametrize("field", ORIGIN_FIELDS)
@BOTH
def test_what_a_browser_obeys_for_the_whole_origin_comes_from_trusted_models_alone(door, field):
    lines = f"{field}: a=b; Path=/", f"{field.upper()}: c=d"
    assert field.lower() not in dict(answered(door, *lines))
    for name in TRUSTED:
        came = [value for found, value in answered(door, *lines, name=name) if found == field.lower()]
        assert came == ["a=b; Path=/", "c=d"], name


@pytest.mark.fault(85)
@pytest.mark.parametrize("status", [101, 204, 302, 304, 401, 500])
def test_a_cookie_of_any_status_ends_here(door, status):
    text = f"HTTP/1.1 {status} X\r\nSet-Cookie: a=b\r\nset-cookie:c=d\r\nContent-Length: 0\r\n\r\n"
    door.upstream.answer = text.encode()
    assert b"a=b" not in (answer := sent(door))
    assert b"c=d" not in answer
    assert f"HTTP/1.1 {status} ".encode() in answer


PASSED = [
    "Access-Control-Allow-Origin: *", "Cache-Control: no-store", "Content-Disposition: attachment",
    "Cross-Origin-Opener-Policy: same-origin", "Link: </a.css>; rel=preload", "Origin-Agent-Cluster: ?1",
    "Permissions-Policy: camera=()", "Referrer-Policy: no-referrer", 'Reporting-Endpoints: a="https://r.test"',
    "Timing-Allow-Origin: *", "X-Set-Cookie: a=b",
]  # fmt: skip


@pytest.mark.parametrize("line", PASSED)
def test_what_concerns_the_answer_alone_passes(door, line):
    name, _, value = line.partition(": ")
    assert (name.lower(), value) in answered(door, line)


LONG = "Bearer " + ", ".join(f"p{number}=x" for number in range(3000))
SAFE = ["Bearer", 'bearer realm="a b", error=invalid_token', "Bearer a=b,c=d ,e=f", LONG]
ASKING = [
    "Basic", 'Basic realm="a"', "Negotiate", "NTLM", 'Digest realm="a", nonce="b"', "Bearer, Basic",
    'Bearer realm="a", Basic realm="b"', "Bearer Basic", "Basic, Bearer", 'Bearer realm="a" Basic',
    "Bearer a=b, Negotiate", "BearerBasic realm=a", "Bearer a=b c=d", "Bearer x, Basic",
]  # fmt: skip


@pytest.mark.fault(85)
@BOTH
def test_no_model_lets_a_browser_ask_its_user_for_a_password(door):
    for value in ASKING:
        assert "www-authenticate" not in dict(answered(door, f"WWW-Authenticate: {value}")), value
        asked = answered(door, f"WWW-Authenticate: {value}", name="trusted")
        assert ("www-authenticate", value) in asked
    for value in SAFE:
        for name in ("chat", "trusted"):
            came = [found for field, found in answered(door, f"WWW-Authenticate: {value}", name=name)
                    if field == "www-authenticate"]  # fmt: skip
            assert came == [value], name


@pytest.mark.fault(85)
def test_of_several_ways_to_log_in_none_that_asks_a_user_passes(door):
    came = dict(answered(door, "WWW-Authenticate: Bearer", "WWW-Authenticate: Basic"))
    assert came.get("www-authenticate") == ("Bearer" if nginx_version() < (1, 23, 0) else None)


@pytest.mark.fault(87)
@BOTH
def test_a_callers_cookies_reach_trusted_models_alone(door):
    door.upstream.answer = OK
    sent(door, BROWSER, ("cookie", "b=c"))
    assert door.upstream.got("Cookie") == []
    for name in TRUSTED:
        sent(door, BROWSER, ("cookie", "b=c"), name=name)
        assert door.upstream.got("Cookie") == ["session=secret; b=c"], name


@pytest.mark.fault(87)
@pytest.mark.parametrize("door", ["regex"], indirect=True)
def test_a_trusted_name_in_the_path_of_another_model_gets_it_no_cookie(door):
    """`regex` takes the first route whose path is found anywhere, so both names can stand in one path."""
    other = door.upstream.__class__()
    door.manifests.routed("evil", port=other.port)
    door.daemon.until_state("evil", "accepted")
    for first, second in (("trusted", "evil"), ("evil", "trusted")):
        sent(door, BROWSER, line=f"GET /apis/rayservice/{first}/apis/rayservice/{second}/x HTTP/1.1")
        assert other.got("Cookie") == []
    assert len(other.heads) == 2
    other.close()


@BOTH
def test_authorization_reaches_every_model_by_default(door):
    door.upstream.answer = OK
    sent(door, CALLER)
    assert door.upstream.got("Authorization") == ["Bearer secret"]


SWITCHED_OFF = [{"PASS_AUTHORIZATION": "false", "TEMPLATE": template} for template in ("prefix", "regex")]


@pytest.mark.fault(87)
@pytest.mark.parametrize("door", SWITCHED_OFF, indirect=True, ids=["prefix", "regex"])
def test_authorization_reaches_trusted_models_alone_where_it_is_switched_off(door):
    door.upstream.answer = OK
    sent(door, CALLER, ("Proxy-Authorization", "Basic eDp5"))
    assert door.upstream.got("Authorization") == door.upstream.got("Proxy-Authorization") == []
    for name in TRUSTED:
        sent(door, CALLER, name=name)
        assert door.upstream.got("Authorization") == ["Bearer secret"]
