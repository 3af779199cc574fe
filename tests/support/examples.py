"""How many examples a property gets: RAYPROXY_TEST_TIMES as many as usual, which `make fuzz` sets."""

import os

TIMES = int(os.environ.get("RAYPROXY_TEST_TIMES", "1"))


def times(usual: int) -> int:
    return usual * TIMES
