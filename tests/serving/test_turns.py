"""However much one request asks for, others have their turn."""

import asyncio
import threading
from contextlib import ExitStack

import pytest
import tiny
from conftest import wait_for
from llmserving.admission import Admission
from llmserving.engines.base import Sampling
from llmserving.engines.generate import GenerateEngine
from llmserving.engines.turns import Line, in_turn
from llmserving.errors import ApiError

MANY = {"prompt": [5, 6, 7], "n": 40, "max_tokens": 300, "ignore_eos": True, "temperature": 0}
ONE = {"prompt": [8, 9], "max_tokens": 3, "ignore_eos": True, "temperature": 0}


def waiting(*requests):
    """Return work of some requests, named by its place in the line."""
    return [(f"{request}{place}", request) for place, request in enumerate(requests)]


def test_the_request_that_has_fewest_places_is_next_and_the_first_among_those():
    assert in_turn(waiting(1, 1, 1, 2, 2, 3), [], 64) == ["10", "23", "35", "11", "24", "12"]
    assert in_turn(waiting(1, 1, 2), [1, 1, 2], 64) == ["22", "10", "11"]
    assert in_turn([], [1], 64) == []


def test_an_eighth_of_the_places_is_kept_for_requests_that_have_none():
    begun = in_turn(waiting(*[1] * 100), [], 64)
    assert len(begun) == 56
    assert in_turn(waiting(1, 2, 3), [1] * 56, 64) == ["21", "32"]
    assert in_turn(waiting(1), [], 1) == ["10"]


def test_a_line_for_one_place_goes_from_request_to_request():
    line = Line()
    for work, request in waiting(1, 1, 1, 2):
        line.add(request, work)
    assert line.take() == "10"
    line.add(3, "new")
    assert [line.take() for _ in range(5)] == ["23", "11", "new", "12", None]
    assert not line


def test_what_leaves_a_line_takes_nobodys_turn():
    line = Line()
    for work, request in waiting(1, 1, 2, 3):
        line.add(request, work)
    for request, work in (1, "10"), (2, "22"), (2, "22"), (1, "never there"):
        line.drop(request, work)
    assert [line.take() for _ in range(3)] == ["11", "33", None]
    assert not line


def test_callers_of_generate_who_have_gone_wait_in_no_line(monkeypatch):
    """While one long answer runs any number of them may come and go, each with a prompt."""
    engine, go, began = GenerateEngine(tiny.make_model(), 512), threading.Event(), threading.Event()
    generate = engine._model.generate

    def slow(*values, **named):
        began.set()
        go.wait(60)
        return generate(*values, **named)

    monkeypatch.setattr(engine._model, "generate", slow)

    def ask():
        return asyncio.create_task(anext(engine.submit([5, 6], Sampling(max_tokens=1))))

    async def scenario():
        first = ask()
        await asyncio.to_thread(began.wait, 60)
        gone = [ask() for _ in range(100)]
        patient = ask()
        await asyncio.sleep(0)
        assert engine.stats().waiting == 101
        for one in gone:
            one.cancel()
        await asyncio.wait(gone, timeout=60)
        left = sum(map(len, engine._line._lines.values()))
        assert (left, first.done(), engine.stats().waiting) == (1, False, 1)
        go.set()
        await asyncio.wait_for(asyncio.gather(first, patient), 60)

    try:
        asyncio.run(scenario())
    finally:
        go.set()
        engine.close()


def test_the_sequences_of_a_request_are_known_as_its_own():
    assert Sampling(max_tokens=1).request != Sampling(max_tokens=1).request
    assert Sampling(max_tokens=1) == Sampling(max_tokens=1)


def test_requests_of_many_sequences_leave_an_eighth_to_those_of_one():
    admission = Admission(320)
    with admission.enter(128), admission.enter(128):
        with pytest.raises(ApiError, match="the server is full: 256 of 280"), admission.enter(128):
            pass
        with admission.enter(24):
            with pytest.raises(ApiError, match="280 of 280"), admission.enter(2):
                pass
            with ExitStack() as stack:
                for _ in range(40):
                    stack.enter_context(admission.enter(1))
                with pytest.raises(ApiError, match="320 of 320"), admission.enter(1):
                    pass
    with pytest.raises(ApiError, match="281 sequences in one request: at most 280"):
        admission.check(281)


@pytest.mark.parametrize(
    "settings",
    [
        {"engine": "continuous", "max_running": 8},
        {"engine": "continuous", "kv_cache_tokens": 512},  # room for two of them
        {"engine": "generate"},
    ],
    ids=str,
)
def test_a_caller_of_one_answer_is_not_behind_all_of_anothers(base, serve, settings):
    running = serve(model_dir=base, **settings)
    stats = running.server.engine.stats
    thread = threading.Thread(target=running.post, args=("/v1/completions", MANY))
    thread.start()
    wait_for(lambda: stats().waiting > 20, "most of them wait")
    before = stats().waiting
    assert running.post("/v1/completions", ONE).status_code == 200
    assert stats().waiting >= before - 8
    thread.join(300)
    running.wait_until_idle()


def test_the_prompts_of_one_request_are_one_request(base, serve):
    running = serve(model_dir=base, engine="generate")
    bodies = [{**MANY, "n": 1, "prompt": [[5, place] for place in range(40)]}, ONE]
    threads = [threading.Thread(target=running.post, args=("/v1/completions", body)) for body in bodies]
    threads[0].start()
    wait_for(lambda: running.server.engine.stats().waiting > 30, "most of them wait")
    threads[1].start()
    threads[1].join(300)
    assert running.server.engine.stats().waiting > 30
    threads[0].join(300)
