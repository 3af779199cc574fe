"""Name every difference between what came out one way and what came out another."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

from tests.differential import defects, target
from tests.differential.exchange import Case, Seen
from tests.differential.wire import NO_COLON, Fields, Message, is_final

FRAMING = ("content-length", "transfer-encoding")
# What nginx writes itself, before what it passes on: the order of different fields means nothing (RFC 9110, 5.3).
WRITTEN = {
    "request": {"connection", "host", "upgrade", "content-length", "x-real-ip", "x-forwarded-for", "x-forwarded-proto",
                "x-forwarded-host", "x-forwarded-prefix"},
    "answer": {"server", "date", "content-type", "content-length", "connection", "upgrade", "location",
               "last-modified", "www-authenticate"},
}  # fmt: skip
# Of an answer: RFC 9110, 5.3 allows one line.
ONCE = {
    "content-location", "content-type", "date", "etag", "expires", "last-modified", "location", "refresh", "server",
}  # fmt: skip
LISTED = {"close", "keep-alive", "upgrade"}  # words in Connection that name no field
UNEXPLAINED = "unexplained"
PREFIX = "/apis/rayservice/chat"


@dataclass(frozen=True, order=True)
class Difference:
    """Hold one difference: `kind` is what a reason is given for, `detail` what it was this time."""

    kind: str
    detail: str = ""


def compare(case: Case, beside: Seen, seen: Seen) -> list[Difference]:
    """Return the differences of `seen` from `beside`, requests first."""
    return sorted(set(_requests(case, beside, seen))) + sorted(set(_answers(case, beside, seen)))


def _requests(case: Case, beside: Seen, seen: Seen) -> Iterator[Difference]:
    if _cut_short(case, seen):
        yield Difference(
            f"request: cut after a part of it: {defects.of_request(case)}", " ".join(_said(seen.answers[-1]))
        )
        return
    if _refused(beside, seen) and seen.requests:
        yield Difference(f"request: sent once only: {defects.of_answer(case) or UNEXPLAINED}")
    elif _refused(beside, seen):
        yield _refusal(case, seen)
    elif len(seen.requests) > len(beside.requests):
        yield Difference("request: sent again", f"{len(seen.requests)} times")
    for one, other in zip(beside.requests, seen.requests, strict=False):
        yield from _request(one, other)
    if seen.requests and beside.request_streamed and not seen.request_streamed:
        yield Difference("request: its body is gathered before it is sent on")


def _refused(beside: Seen, seen: Seen) -> bool:
    """Tell whether fewer requests came to the model; none at all may have another answer than a refusal beside it."""
    if beside.requests or seen.requests:
        return len(seen.requests) < len(beside.requests)
    return _statuses(beside) != _statuses(seen)


def _cut_short(case: Case, seen: Seen) -> bool:
    """Tell whether what is wrong with a request was seen only when its beginning had reached the model."""
    return any(not request.whole for request in seen.requests) and bool(seen.answers and defects.of_request(case))


def _statuses(seen: Seen) -> list[int]:
    return [answer.status for answer in seen.answers]


def _request(one: Message, other: Message) -> Iterator[Difference]:
    (method, place, version), (method2, place2, version2) = (_words(message.start) for message in (one, other))
    if place != place.strip(" "):
        yield Difference("request: blanks of the request line become one")
        place = place.strip(" ")
    if method != method2:
        yield Difference("request: method changed", f"{method} -> {method2}")
    if version != version2:
        yield Difference(f"request: `{version}` becomes `{version2}`")
    if (names := target.explain(place, place2)) is None:
        yield Difference(f"request: target {UNEXPLAINED}", f"{_cut(place)} -> {_cut(place2)}")
    for name in names or ():
        yield Difference(f"request: {name}", f"{_cut(place)} -> {_cut(place2)}")
    yield from _message("request", one, other)


def _words(line: str) -> tuple[str, str, str]:
    method, _, rest = line.partition(" ")
    place, _, version = rest.rpartition(" ")
    return (method, place, version) if version.startswith("HTTP/") else (method, rest, "HTTP/0.9")


def _answers(case: Case, beside: Seen, seen: Seen) -> Iterator[Difference]:
    if _refused(beside, seen) or _cut_short(case, seen):
        return  # a refusal has an answer of its own
    finals, finals2 = ([answer for answer in side.answers if is_final(answer)] for side in (beside, seen))
    interims, interims2 = ([answer for answer in side.answers if not is_final(answer)] for side in (beside, seen))
    for one, other in zip_longest(interims, interims2):
        yield from _interim(one, other)
    for one, other in zip_longest(finals, finals2):
        yield from _final(case, one, other)
    if beside.extra != seen.extra and not defects.of_answer(case):
        switched = seen.answers and seen.answers[-1].status == 101
        behind = "what comes back after a `101`" if switched else UNEXPLAINED
        yield Difference(f"answer: {behind}", f"{beside.extra!r} -> {seen.extra!r}")
    if beside.answer_streamed and not seen.answer_streamed:
        yield Difference("answer: gathered before it is sent on")


def _interim(one: Message | None, other: Message | None) -> Iterator[Difference]:
    if one is None or other is None:
        there = one or other
        assert there
        yield Difference(f"answer: `{there.status}` {'added' if one is None else 'dropped'}")
    else:
        yield from _message("answer", one, other)


def _final(case: Case, one: Message | None, other: Message | None) -> Iterator[Difference]:
    if one is None or other is None or one.status != other.status or _own_words(case, other):
        yield _replacement(case, one, other)
        return
    version, version2 = one.start[:8], other.start[:8]
    if version != version2:
        yield Difference(f"answer: `{version}` becomes `{version2}`")
    if one.start[8:] != other.start[8:]:
        yield Difference(f"answer: status {UNEXPLAINED}", f"{one.start} -> {other.start}")
    yield from _message("answer", one, other, defects.of_answer(case))


def _own_words(case: Case, answer: Message) -> bool:
    """Tell whether an error is the proxy's own; a hop in front may have had one of the same status in its place."""
    return bool(defects.of_answer(case)) and _said(answer)[1].startswith("rayservice_")


def _message(side: str, one: Message, other: Message, defect: str = "") -> Iterator[Difference]:
    if one.framing != other.framing:
        yield Difference(f"{side}: framing {one.framing} becomes {other.framing}")
    if one.body != other.body:
        shown = f"{_cut(repr(one.body))} -> {_cut(repr(other.body))}"
        yield Difference(f"{side}: another body: {defect or UNEXPLAINED}", shown)
    if one.whole != other.whole:
        yield Difference(f"{side}: {'cut' if one.whole else 'a cut is hidden'}")
    if one.trailers != other.trailers:
        yield Difference(f"{side}: trailers dropped" if not other.trailers else f"{side}: trailers {UNEXPLAINED}")
    if one.extensions != other.extensions:
        yield Difference(f"{side}: chunk extensions dropped")
    framed = {message.framing for message in (one, other)} <= {"length", "chunked", "close"}
    yield from _fields(side, *(_kept(message.fields, framed) for message in (one, other)))
    named = {word.strip().lower() for value in one.values("connection") for word in value.split(",")} - LISTED
    for name in sorted(named & {name.lower() for name, _ in other.fields}):
        yield Difference(f"{side}: a field that `Connection` names is passed on", name)


def _kept(fields: Fields, framed: bool) -> Fields:
    """Leave out the fields that say how long a body is: `framing` has said it."""
    return tuple(field for field in fields if not (framed and field[0].lower() in FRAMING))


def _fields(side: str, one: Fields, other: Fields) -> Iterator[Difference]:
    names = dict.fromkeys(name.lower() for name, _ in (*one, *other))
    same = set()
    for name in names:
        before, after = ([field for field in fields if field[0].lower() == name] for fields in (one, other))
        if before == after:
            same.add(name)
        else:
            yield from _field(side, before, after)
    passed = same - WRITTEN[side]
    orders = [[name.lower() for name, _ in fields if name.lower() in passed] for fields in (one, other)]
    if orders[0] != orders[1]:
        yield Difference(f"{side}: order of fields {UNEXPLAINED}", " ".join(orders[1]))


def _field(side: str, before: list[tuple[str, str]], after: list[tuple[str, str]]) -> Iterator[Difference]:
    values, values2 = ([value.strip(" \t") for _, value in fields] for fields in (before, after))
    name = f"`{(before or after)[0][0]}`"
    name = re.sub(r"(?<=`)[a-z]|(?<=-)[a-z]", lambda found: found[0].upper(), name) if after and before else name
    shown = _cut(f"{' | '.join(values)} -> {' | '.join(values2)}")
    if NO_COLON in (value for _, value in before):
        yield Difference(f"{side}: a line without a colon gets one", name)
    elif not after and not re.search(r"[A-Za-z0-9_-]", before[0][0]):
        yield Difference(f"{side}: a field of other characters than letters, digits, `-` and `_` is dropped", name)
    elif not after:
        yield Difference(f"{side}: {name} dropped", _cut(" | ".join(values)))
    elif not before:
        yield Difference(f"{side}: {name} added", _cut(" | ".join(values2)))
    elif name.strip("`").lower() in ONCE and len(values2) == 1 < len(values) and values2[0] in values:
        yield Difference(f"{side}: of a field that can be there once (`ETag`, `Location`) one line is kept", shown)
    elif values != values2:
        yield Difference(f"{side}: {name} {_change(name, values, values2)}", shown)
    elif [key for key, _ in before] != [key for key, _ in after]:
        yield Difference(f"{side}: capitals of a field's name", " ".join(key for key, _ in after))
    else:
        yield Difference(f"{side}: blanks around a value become one before it")


def _change(name: str, values: list[str], values2: list[str]) -> str:
    """Say how a field was changed, where it is a way that is known."""
    if len(values2) != 1:
        return "changed"
    if values2[0].startswith(", ".join(values) + ", ") or values2[0] == values[0] + PREFIX:
        return "appended to"
    if len(values) > 1:
        return "of several lines becomes one" if values2[0] == ", ".join(values) else "changed"
    if values2[0] in _with_prefix(values[0]):
        return "gets the prefix of the route"
    return "changed"


def _with_prefix(place: str) -> set[str]:
    """Return how an address, or a Refresh, of the model's own host may look outside."""
    lead, origin, path = re.fullmatch(r"(.*?url=|)((?i:https?)://[^/?#]*|)(.*)", place, re.DOTALL).groups()  # type: ignore[union-attr]
    return {f"{lead}{PREFIX}{path}", f"{lead}{origin}{PREFIX}{path}"}


def _refusal(case: Case, seen: Seen) -> Difference:
    status, words = _said(seen.answers[-1] if seen.answers else None)
    why = defects.of_request(case) or UNEXPLAINED
    if why == defects.ELSEWHERE:  # what is there is no matter of the route's
        return Difference(f"request: not sent: {why}", f"{status} {words}")
    return Difference(f"request: refused with {status}: {why}", words)


def _replacement(case: Case, one: Message | None, other: Message | None) -> Difference:
    (before, _), (after, words) = _said(one), _said(other)
    return Difference(
        f"answer: replaced by {after}: {defects.of_answer(case) or UNEXPLAINED}", f"{words}, instead of {before}"
    )


def _said(answer: Message | None) -> tuple[str, str]:
    """Return an answer's status, and the `type` of an error that the proxy made."""
    if answer is None:
        return "a closed connection", "nothing"
    status = str(answer.status or "an answer without a status")
    try:
        return status, json.loads(answer.body)["error"]["type"]
    except (ValueError, KeyError, TypeError):
        return status, "not JSON"


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:40]}... of {len(text)}"
