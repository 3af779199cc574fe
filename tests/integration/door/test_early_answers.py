"""A model may answer before it has read a body: what it says is the caller's."""

from __future__ import annotations

import socket

import pytest

from tests.integration.door.test_failures import assert_failure

DOORS = {"prefix": {"TEMPLATE": "prefix"}, "regex": {"TEMPLATE": "regex"}, "streamed": {"STREAM_BODIES": "chat"}}
ALL = pytest.mark.parametrize("door", DOORS.values(), indirect=True, ids=list(DOORS))
REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
CALL = {"method": "POST", "body": b"x" * 5_000_000}
TIMES = 10


@pytest.mark.fault(162)
@ALL
def test_a_model_that_answers_from_the_head_alone_is_heard_however_large_the_body(door):
    def as_uvicorn(connection: socket.socket) -> None:
        connection.sendall(REFUSED)
        if "close" not in door.upstream.got("Connection"):  # else it closes at once, and what is unread resets
            while connection.recv(65536):
                pass

    door.upstream.answer = as_uvicorn
    assert [door.ask(**CALL).status for _ in range(TIMES)] == [401] * TIMES


@ALL
def test_where_it_closes_with_the_body_unread_the_answer_is_its_own_or_a_502_that_does_not_say_it_gave_none(door):
    door.upstream.answer = lambda connection: connection.sendall(REFUSED)
    for _ in range(TIMES):
        answer = door.ask(**CALL)
        if answer.status != 401:  # nginx was writing when the connection broke
            words = "it gave none, or closed before it had taken the whole request"
            assert_failure(answer, 502, "rayservice_bad_answer", words)
