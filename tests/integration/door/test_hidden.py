"""Paths that no caller is shown, however they are spelled."""

from __future__ import annotations

import re

import pytest

from tests.integration.door.test_fields import sent
from tests.support.raw import exchange
from tests.support.waiting import until

BOTH = pytest.mark.parametrize("door", ["prefix", "regex"], indirect=True)
OWN = "/apis/rayservice/chat"
HIDDEN = [
    "/metrics", "/metrics/", "/metricsx", "/metrics/x?y=z", "/METRICS", "//metrics", "///metrics", "/./metrics",
    "/x/../metrics", "/x/..//metrics", "/%6detrics", "/%6D%65%74%72%69%63%73", "/%2e/metrics", "/x/%2E%2e/metrics",
    "%2fmetrics", "/%2Fmetrics", "/metrics%3Fx", "/metrics%20x", "/metrics%0ax", "/metrics;x", "/metrics%23",
    "/metrics?", "/-/routes", "/-/routes/", "/%2d/routes", "/-%2froutes", "//-//routes", "/-/./routes",
    "/-/x/../routes", "/%252d/routes", "/-%252Froutes", "/%256detrics", "%252fmetrics", "/metrics%253F",
    "/metrics%2520",     "/apis/rayservice/chat/metrics", "/../chat/metrics", "/../trusted/metrics",
]  # fmt: skip
SHOWN = [
    "/metric",
    "/my/metrics",
    "/-/healthz",
    "/-/route",
    "/routes",
    "/docs",
    "/openapi.json",
    "/?x=/metrics",
    "/m%25",
]


@pytest.mark.fault(91)
@pytest.mark.parametrize("tail", HIDDEN)
@BOTH
def test_a_hidden_path_reaches_no_model_in_any_spelling(door, tail):
    before = len(door.upstream.heads)
    for method in ("GET", "POST"):
        answer = sent(door, line=f"{method} {OWN}{tail} HTTP/1.1")
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b'"type":"path_hidden"' in answer
        assert b"\r\nContent-Type: application/json\r\n" in answer
    assert len(door.upstream.heads) == before


@pytest.mark.fault(91)
@BOTH
def test_an_absolute_target_and_a_second_request_of_a_connection_are_no_way_round(door):
    before = len(door.upstream.heads)
    absolute = f"GET http://proxy.test{OWN}/metrics HTTP/1.1"
    assert b'"type":"path_hidden"' in sent(door, line=absolute)
    two = "GET {}/-/healthz HTTP/1.1\r\nHost: h\r\n\r\nGET {}/metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    assert exchange(door.daemon.port, two.format(OWN, OWN).encode()).count(b'"type":"path_hidden"') == 1
    assert len(door.upstream.heads) == before + 1


LONG = {
    "escaped": "/apis/a/b" + "%252f" * 9000 + OWN,  # nginx takes 64 kB for a line
    "escaped, to the end": OWN + "%252f" * 12_000,
    "plain": OWN + "/" * 60_000,
    "around a word": "/apis/a/b" + "%252f" * 4000 + "-" + "%252f" * 4000 + OWN,
    "many beginnings": "/apis/a/b" * 6000 + OWN,
}


def logged(door, mark: str) -> str:
    """Return what is logged up to here, which ends with nginx's line of a port where nobody listens."""
    door.ask(mark, name="dead")
    until("nginx's lines are there", lambda: f"/dead/{mark} " in door.daemon.told())
    return door.daemon.told()


@pytest.mark.fault(161)
@pytest.mark.parametrize("case", LONG)
@BOTH
def test_a_long_path_is_compared_to_its_end_and_hides_no_hidden_one(door, case):
    """nginx takes a comparison that PCRE gives up for one that found nothing."""
    known, before = len(door.daemon.told()), len(door.upstream.heads)
    for tail in ("/metrics", "/-/routes"):
        assert b'"type":"path_hidden"' in sent(door, line=f"GET {LONG[case]}{tail} HTTP/1.1")
    assert len(door.upstream.heads) == before
    assert b'"type":"path_hidden"' not in sent(door, line=f"GET {LONG[case]}/x HTTP/1.1")
    lines = logged(door, f"after-{known}")[known:]
    assert not re.search(r"pcre2?_\w+\(\) failed", lines)


@pytest.mark.parametrize("tail", SHOWN)
@BOTH
def test_no_other_path_is_hidden(door, tail):
    assert sent(door, line=f"GET {OWN}{tail} HTTP/1.1").startswith(b"HTTP/1.1 200 ")


def test_the_place_of_the_answer_is_no_path_of_callers(door):
    answer = door.daemon.get("/-/hidden")
    assert (answer.status, answer.error_type) == (404, "rayservice_not_found")


def test_paths_that_are_no_models_are_not_hidden(door):
    for target in ("/metrics", "/-/routes", "/x/metrics"):
        assert door.daemon.get(target).error_type == "rayservice_not_found"


OTHERS = [{"HIDDEN_PATHS": "/docs, /v1/admin/"}, {"HIDDEN_PATHS": ""}]


@pytest.mark.parametrize("door", OTHERS, indirect=True, ids=["others", "none"])
def test_the_operator_says_which_paths_are_hidden(door):
    some = bool(door.daemon.environment["RAYPROXY_HIDDEN_PATHS"])
    for tail, hidden in (("docs", some), ("v1/admin/x", some), ("v1/admin", False), ("metrics", False)):
        assert door.ask(tail).status == (404 if hidden else 200), tail
