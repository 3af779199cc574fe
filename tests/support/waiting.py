"""Poll with a deadline: no test sleeps and hopes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(what: str, look: Callable[[], T | None], seconds: float = 40.0, every: float = 0.02) -> T:
    """Return the first truthy value of `look`; fail with `what` and the last value when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = look()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what} (last seen: {value!r})")
        time.sleep(every)


def stays(what: str, look: Callable[[], object], seconds: float = 1.0, every: float = 0.05) -> None:
    """Fail as soon as `look` is not truthy; return when it was so all the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = look()
        assert value, f"{what} (seen: {value!r})"
        time.sleep(every)
