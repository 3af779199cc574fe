"""The table of a run: what callers heard while each thing happened, and what the proxy said of it.

Where the plain script routes the same models beside the proxy, it has callers of its own meanwhile, and a table.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from tests.cluster.witness import Said, listening
from tests.cluster.world import ROUTE, World
from tests.support.callers import Heard, calling
from tests.support.node import LONG
from tests.support.waiting import until

COUNTED = "took", "calls", "failed", "with", "longest gap", "streams", "cut", "sockets cut"
COLUMNS = *COUNTED, "`routes`", "Events", "503 said"
OF_THE_SCRIPT = *COUNTED, "reloads"


@dataclass
class Table:
    """The rows so far."""

    rows: list[str] = field(default_factory=list)
    of_the_script: list[str] = field(default_factory=list)

    @contextmanager
    def row(self, what: str) -> Iterator[None]:
        """Add a row about what happens in the block."""
        begun = time.monotonic()
        yield
        self.rows.append(_row(what, f"{time.monotonic() - begun:.0f} s", *[""] * (len(COLUMNS) - 1)))

    @contextmanager
    def calling(self, what: str, world: World) -> Iterator[Heard]:
        """Add a row about what happens in the block while callers ask, also where it fails."""
        with ExitStack() as rows, ExitStack() as during:  # who still waits at the end of the block is answered first
            said = during.enter_context(listening(world))
            heard = during.enter_context(calling(world.proxy, ROUTE))
            rows.callback(lambda: self.rows.append(_row(what, *counts(heard), *words(said, heard))))
            if script := world.script:
                before = script.reloads
                theirs = during.enter_context(calling(script.address, ROUTE))
                rows.callback(
                    lambda: self.of_the_script.append(_row(what, *counts(theirs), f"{script.reloads - before}"))
                )
            yield heard

    def rolled(self, what: str, world: World) -> Heard:
        """Roll both replicas of deploy/ while callers ask; the plain script has no such pods."""
        with self.calling(what, replace(world, script=None)) as heard:
            world.roll()
            done = len(heard.calls)
            until("load on the new pods as well", lambda: len(heard.calls) > done + 200, LONG)
        return heard

    def __str__(self) -> str:
        beside = ["", "the plain script meanwhile:", *_head(OF_THE_SCRIPT), *self.of_the_script]
        return "\n".join([*_head(COLUMNS), *self.rows, *(beside if self.of_the_script else [])])


def counts(heard: Heard) -> tuple[str, ...]:
    """Return the cells about callers."""
    seen, failures = heard.figures, sorted(heard.failures.items())
    calls = f"{heard.ended - heard.begun:.0f} s", f"{seen.calls:,}", f"{seen.failed:,}"
    words = ", ".join(f"{outcome}: {count}" for outcome, count in failures)
    return *calls, words, f"{seen.gap:.1f} s", f"{seen.streams:,}", f"{seen.cut:,}", f"{seen.broken:,}"


def words(said: Said, heard: Heard) -> tuple[str, ...]:
    """Return the cells about what was said."""
    events = (f"{reason} x {count}" if count > 1 else reason for reason, count in Counter(said.events).items())
    return ", ".join(said.states), ", ".join(events), heard.words.get("503", "")


def _head(columns: tuple[str, ...]) -> list[str]:
    return [_row("", *columns), "|---" * (len(columns) + 1) + "|"]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
