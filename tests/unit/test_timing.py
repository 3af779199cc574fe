"""The numbers that a reflector goes by, held against what is promised of it."""

from __future__ import annotations

import pytest

from rayproxy.kube.api import Deadlines
from rayproxy.sources.reflector import ReflectorConfig

TIMING = ReflectorConfig()


@pytest.mark.fault(8)
def test_a_dead_watch_is_noticed_within_90_s_and_not_before_the_next_bookmark_is_due():
    assert 75 <= TIMING.silence <= 90


@pytest.mark.fault(3)
def test_a_resource_that_fails_for_long_is_asked_for_a_quarter_of_a_request_a_second_at_most():
    requests = 2  # a list, and the watch after it
    assert requests / TIMING.backoff_cap <= 0.25
    assert TIMING.backoff_cap + Deadlines().connect <= 35, "and followed again within 35 s of its return"


def test_watches_end_and_lists_come_at_random_so_that_replicas_spread():
    assert 240 <= TIMING.watch[0] < TIMING.watch[1] <= 480
    assert 600 <= TIMING.relist[0] < TIMING.relist[1] <= 900


def test_the_back_off_is_client_gos():
    assert (TIMING.backoff_first, TIMING.backoff_cap, TIMING.healthy) == (0.8, 30.0, 120.0)
