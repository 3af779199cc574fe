"""Send whole tables every way, and write what differs as text: the golden files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.differential.compare import Difference, compare
from tests.differential.exchange import Case, exchange
from tests.differential.masks import masked
from tests.differential.recorder import Recorder
from tests.differential.ways import Way

SEPARATOR = " || "
WITHOUT = "not"


@dataclass
class Observed:
    """Hold a table's differences: {case: {way: differences}}."""

    title: str
    cases: dict[str, dict[str, list[Difference]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Differ:
    """Send a case every way, and compare."""

    recorder: Recorder
    ways: list[Way]

    def differences(self, case: Case) -> dict[str, list[Difference]]:
        """Return {way: differences} for the ways that lead through a door."""
        ports = {str(way.port): "PORT" for way in self.ways}
        seen = {way.name: masked(exchange(case, self.recorder, way.port, way.base), ports) for way in self.ways}
        return {way.name: compare(case, seen[way.beside], seen[way.name]) for way in self.ways if way.through_a_door}


def observe(title: str, table: dict[str, Case], differ: Differ) -> Observed:
    """Send a whole table."""
    return Observed(title, {name: differ.differences(case) for name, case in table.items()})


def written(observed: Observed) -> Iterator[str]:
    """Yield a table's lines: what is usual on each way, then each case with what is not."""
    usual = _usual(observed)
    yield f"# {observed.title}: usual"
    yield from _lines(usual)
    for name, case in observed.cases.items():
        yield f"# {observed.title}: {name}"
        yield from _lines({way: _unusual(found, usual[way]) for way, found in case.items()})


def _usual(observed: Observed) -> dict[str, list[Difference]]:
    """Return for each way what more than half of its cases have."""
    counts: dict[str, Counter[Difference]] = defaultdict(Counter)
    for case in observed.cases.values():
        for way, found in case.items():
            counts[way].update(found)
    half = len(observed.cases) / 2
    return {way: [found for found, count in counter.items() if count > half] for way, counter in counts.items()}


def _unusual(found: list[Difference], usual: list[Difference]) -> list[Difference]:
    missing = [difference for difference in usual if difference not in found]
    without = [Difference(WITHOUT, difference.kind) for difference in missing]
    if len(missing) == len(usual) > 0:
        without = [Difference(WITHOUT, "all that is usual")]
    return without + [difference for difference in found if difference not in usual]


def _lines(case: dict[str, list[Difference]]) -> Iterator[str]:
    ways: dict[Difference, list[str]] = defaultdict(list)
    for way, found in case.items():
        for difference in found:
            ways[difference].append(way)
    for difference, names in ways.items():
        shown = ", ".join(names)
        yield SEPARATOR.join((difference.kind, difference.detail, shown)).encode("unicode_escape").decode()


def kinds(golden: str) -> Iterator[tuple[str, str]]:
    """Yield each (kind, way) that a golden file holds."""
    for line in golden.splitlines():
        if not line.startswith("#"):
            kind, _, ways = line.split(SEPARATOR)
            if kind != WITHOUT:
                yield from ((kind, way) for way in ways.split(", "))
