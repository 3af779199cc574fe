"""The comparison itself: whatever is made different is seen, and called by its name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.differential import target
from tests.differential.answers import GET
from tests.differential.asks import ask
from tests.differential.compare import Difference, compare
from tests.differential.exchange import Case, Seen
from tests.differential.wire import Message

FIELDS = (("Host", " h"), ("X-A", " 1"), ("X-B", " 2"), ("X-B", " 3"))
REQUEST = Message("POST /a HTTP/1.1", FIELDS, "length", b"abc")
ANSWER = Message("HTTP/1.1 200 OK", FIELDS, "chunked", b"abc", trailers=(("X-Sum", " 1"),))
SEEN = Seen((REQUEST,), (ANSWER,))
CASE = Case((GET,))


def kinds(seen: Seen, case: Case = CASE) -> list[str]:
    """Return what is said of an exchange that should have been SEEN."""
    return [difference.kind for difference in compare(case, SEEN, seen)]


def test_what_is_the_same_has_no_difference():
    assert compare(CASE, SEEN, SEEN) == []


CHANGES = [
    ({"fields": FIELDS[:1] + FIELDS[2:]}, "`X-A` dropped"),
    ({"fields": (*FIELDS, ("X-C", " 1"))}, "`X-C` added"),
    ({"fields": (FIELDS[0], ("X-A", " 2"), *FIELDS[2:])}, "`X-A` changed"),
    ({"fields": (FIELDS[0], ("x-a", " 1"), *FIELDS[2:])}, "capitals of a field's name"),
    ({"fields": (FIELDS[0], ("X-A", "1"), *FIELDS[2:])}, "blanks around a value become one before it"),
    ({"fields": (*FIELDS[:2], FIELDS[3], FIELDS[2])}, "`X-B` changed"),
    ({"fields": (FIELDS[0], *FIELDS[2:], FIELDS[1])}, "order of fields unexplained"),
    ({"body": b"abd"}, "another body: unexplained"),
    ({"framing": "close"}, None),
    ({"whole": False}, "cut"),
    ({"extensions": ("a=b",)}, "chunk extensions dropped"),
]


@pytest.mark.parametrize(("change", "kind"), CHANGES)
@pytest.mark.parametrize("side", ["request", "answer"])
def test_a_change_of_a_message_is_seen_on_either_side(side: str, change: dict, kind: str | None):
    seen = (
        replace(SEEN, requests=(replace(REQUEST, **change),))
        if side == "request"
        else replace(SEEN, answers=(replace(ANSWER, **change),))
    )
    before = (REQUEST if side == "request" else ANSWER).framing
    assert kinds(seen) == [f"{side}: {kind or f'framing {before} becomes close'}"]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("PUT /a HTTP/1.1", "method changed"),
        ("POST /b HTTP/1.1", "target unexplained"),
        ("POST /a?b HTTP/1.1", "target unexplained"),
        ("POST /a HTTP/1.0", "`HTTP/1.1` becomes `HTTP/1.0`"),
    ],
)
def test_a_change_of_a_request_line_is_seen(line: str, kind: str):
    assert kinds(replace(SEEN, requests=(replace(REQUEST, start=line),))) == [f"request: {kind}"]


def test_other_statuses_reasons_interim_answers_trailers_and_bytes_behind_an_answer_are_seen():
    def answers(*found: Message) -> list[str]:
        return kinds(replace(SEEN, answers=found))

    hints = Message("HTTP/1.1 103 Early Hints")
    assert answers(replace(ANSWER, start="HTTP/1.1 500 X")) == ["answer: replaced by 500: unexplained"]
    assert answers(replace(ANSWER, start="HTTP/1.1 200 Fine")) == ["answer: status unexplained"]
    assert answers() == ["answer: replaced by a closed connection: unexplained"]
    assert answers(hints, ANSWER) == ["answer: `103` added"]
    assert answers(replace(ANSWER, trailers=())) == ["answer: trailers dropped"]
    assert kinds(replace(SEEN, extra=b"x")) == ["answer: unexplained"]


def test_a_request_that_comes_twice_or_not_at_all_is_seen_with_what_is_wrong_with_it():
    refused = Seen((), (Message("HTTP/1.1 400 Bad Request"),))
    folded = Case((ask("X-Fold: a", " b", line="GET §/a HTTP/1.1"),))
    assert kinds(Seen((REQUEST, REQUEST), (ANSWER,))) == ["request: sent again"]
    assert kinds(refused) == ["request: refused with 400: unexplained"]
    assert compare(folded, SEEN, refused) == [Difference("request: refused with 400: a folded line", "not JSON")]


def test_what_was_a_stream_and_is_none_any_more_is_seen():
    assert kinds(replace(SEEN, request_streamed=False)) == ["request: its body is gathered before it is sent on"]
    assert kinds(replace(SEEN, answer_streamed=False)) == ["answer: gathered before it is sent on"]


@pytest.mark.parametrize(
    ("sent", "seen", "steps"),
    [
        ("/a%2Fb", "/a%2Fb", 0),
        ("/a%2Fb", "/a/b", 1),
        ("/%7Ea/../b?", "/b", 2),
        ("/%3F/.?x", "/?/?x", 2),
        ("/a%2Fb", "/a/c", None),
        ("/a?b=%2F", "/a?b=/", None),
        ("/a?b", "/a", None),
        ("/a/b", "/a", None),
    ],
)
def test_a_target_is_explained_by_as_few_steps_as_lead_there_or_not_at_all(sent: str, seen: str, steps: int | None):
    found = target.explain(sent, seen)
    assert (None if found is None else len(found)) == steps
