"""How many sequences may be inside at once: one more is answered at once instead of waiting for ever.

A part of them is for requests of one sequence: a few that ask for a hundred leave room for everybody else.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from llmserving.engines.turns import kept
from llmserving.errors import ApiError, bad_request

if TYPE_CHECKING:
    from collections.abc import Iterator

RETRY_AFTER = 2  # seconds: about an answer's time


class Admission:
    """Count the sequences inside against a limit, and refuse everything while draining."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.limit_of_many = limit - kept(limit)
        self.inside = 0
        self.draining = False

    def check(self, sequences: int) -> None:
        """Raise ApiError 400 for more sequences than there can ever be places."""
        if sequences > self.limit_of_many:
            most = self.limit_of_many
            raise bad_request(f"{sequences} sequences in one request: at most {most} are possible", "n")

    @contextmanager
    def enter(self, sequences: int) -> Iterator[None]:
        """Hold places for some sequences; raise ApiError 400, 429 or 503 if there is none."""
        self.check(sequences)
        if self.draining:
            raise ApiError(503, "the server is shutting down", retry_after=RETRY_AFTER)
        limit = self.limit if sequences == 1 else self.limit_of_many
        if self.inside + sequences > limit:
            message = f"the server is full: {self.inside} of {limit} sequences are running or waiting"
            raise ApiError(429, message, retry_after=RETRY_AFTER)
        self.inside += sequences
        try:
            yield
        finally:
            self.inside -= sequences
