"""The log of this program's processes: lines on the standard error."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


def set_up(level: str) -> None:
    """Log what is of a level, or above it."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")  # unless whoever started it has set up a log
    logging.getLogger("llmserving").setLevel(level.upper())


@contextmanager
def quieted(name: str, level: int) -> Iterator[None]:
    """Keep out of the log what another's logger says below a level."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
