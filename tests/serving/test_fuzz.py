"""A short run of the fuzzer: `make fuzz-serving MINUTES=10` is a long one."""

import asyncio

import pytest
from conftest import listening
from fuzz import fuzz
from llmserving.server import load
from llmserving.settings import from_mapping


@pytest.mark.parametrize("engine", ["continuous", "generate"])
def test_whatever_callers_send_the_neighbour_is_answered(base, engine):
    with listening(load(from_mapping({"model_dir": base, "engine": engine, "max_waiting": 4000}))) as running:
        report = asyncio.run(fuzz(running.url, seconds=12, seed=7))
        assert report.faults == []
        assert report.neighbours > 0
        assert report.statuses[200] > 0
        assert report.statuses[400] > 0
        running.wait_until_idle()
