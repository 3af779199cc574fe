"""A model's page does not run with the front end's rights unless the operator trusts the model."""

from __future__ import annotations

import pytest

from tests.support.http import Answer

HARMLESS = [
    "application/json", "Application/JSON; charset=utf-8", "application/problem+json", "text/json",
    "application/jsonl", "application/x-ndjson", "text/plain", "text/plain; charset=utf-8", "text/event-stream",
    "text/event-stream;charset=utf-8", "audio/wav", "audio/x-wav", "image/png", "image/vnd.microsoft.icon",
]  # fmt: skip
PAGES = [
    "text/html", "text/html; charset=utf-8", "application/xhtml+xml", "image/svg+xml", "IMAGE/SVG+XML; x=y",
    "audio/x+xml", "text/xml", "application/xml", "application/pdf", "text/css", "text/javascript",
    "application/octet-stream", "", "nonsense", "application/json, text/html", "text/plain;, text/html",
    "image/png, text/html", "application/json; a=b, text/html", "application/json/text/html",
    "text/html; x=application/json", "xapplication/json", "multipart/x-mixed-replace",
]  # fmt: skip
OWN = ["/", "/-/healthz", "/apis/rayservice/none/", "/apis/rayservice/chat", "/apis/rayservice/dead/", "/%zz"]


def served(door, content_type: str, name: str = "chat", more: str = "", tail: str = "") -> Answer:
    field = f"Content-Type: {content_type}\r\n" if content_type else ""
    text = f"HTTP/1.1 200 OK\r\n{field}{more}Content-Length: 2\r\n\r\n{{}}"
    return door.ask(tail, answer=text.encode(), name=name)


def policies(answer: Answer) -> list[str]:
    return [value for name, value in answer.fields if name.lower() == "content-security-policy"]


@pytest.mark.parametrize("content_type", HARMLESS)
def test_what_can_be_no_page_passes_but_is_not_guessed_at(door, content_type):
    answer = served(door, content_type)
    assert policies(answer) == []
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"] == content_type


@pytest.mark.parametrize("content_type", PAGES)
@pytest.mark.parametrize("door", ["prefix", "regex"], indirect=True)
def test_everything_else_is_shut_in(door, content_type):
    answer = served(door, content_type)
    assert policies(answer) == ["sandbox"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("status", [200, 206, 304, 400, 404, 500])
def test_a_page_of_any_status_is_shut_in(door, status):
    text = f"HTTP/1.1 {status} X\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n"
    assert policies(door.ask(answer=text.encode())) == ["sandbox"]


@pytest.mark.parametrize("name", ["trusted", "team"])
@pytest.mark.parametrize("door", ["prefix", "regex"], indirect=True)
def test_the_page_of_a_trusted_name_or_namespace_runs(door, name):
    answer = served(door, "text/html", name)
    assert policies(answer) == []
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_policy_of_the_models_own_is_obeyed_beside_it(door):
    own = "Content-Security-Policy: default-src 'self'\r\n"
    assert sorted(policies(served(door, "text/html", more=own))) == ["default-src 'self'", "sandbox"]
    assert policies(served(door, "text/html", "trusted", more=own)) == ["default-src 'self'"]


def test_of_two_content_types_the_one_that_is_sent_decides(door):
    for first, second in (("application/json", "text/html"), ("text/html", "application/json")):
        answer = served(door, first, more=f"Content-Type: {second}\r\n")
        types = [value for name, value in answer.fields if name.lower() == "content-type"]
        assert len(types) == 1
        assert policies(answer) == ([] if types == ["application/json"] else ["sandbox"])


def test_what_a_model_says_of_sniffing_does_not_count(door):
    answer = served(door, "text/html", more="X-Content-Type-Options: sniff\r\n")
    assert [value for name, value in answer.fields if name.lower() == "x-content-type-options"] == ["nosniff"]


@pytest.mark.parametrize("door", ["regex"], indirect=True)
def test_a_trusted_name_in_the_path_of_another_model_trusts_nothing(door):
    """`regex` takes the first route whose path is found anywhere, so both names can stand in one path."""
    other = door.upstream.__class__()
    other.answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\n{}"
    door.manifests.routed("evil", port=other.port)
    door.daemon.until_state("evil", "accepted")
    answer = door.daemon.get("/apis/rayservice/trusted/apis/rayservice/evil/x")
    assert len(other.heads) == 1
    assert policies(answer) == ["sandbox"]
    other.close()


def test_every_answer_of_the_doors_own_forbids_to_guess(door):
    for target in OWN:
        answer = door.daemon.get(target)
        assert answer.headers["x-content-type-options"] == "nosniff", target
        assert policies(answer) == [], target
