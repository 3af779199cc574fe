"""The table of a run, and its ratios."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# {way: {clients: [figures of each round]}}
Results = dict[str, dict[int, list[dict[str, float]]]]


def median(results: Results, way: str, clients: int, figure: str) -> float:
    """Return the middle of a figure's rounds."""
    return statistics.median(one[figure] for one in results[way][clients])


def ratio(results: Results, way: str, other: str, clients: int, figure: str) -> float:
    """Return the middle of the rounds' ratios of a figure: neighbours on the machine slow both."""
    pairs = zip(results[way][clients], results[other][clients], strict=True)
    return statistics.median(one[figure] / two[figure] for one, two in pairs)


def tables(results: Results, counts: Iterable[int], first: str) -> str:
    """Return the figures as Markdown, and the ratios of the first way to the others."""
    counts = list(counts)
    others = [way for way in results if way != first]

    def ratios(figure: str) -> list[list[str]]:
        return [[way, *(f"{ratio(results, first, way, n, figure):.2f}" for n in counts)] for way in others]

    figures = [[way, *(_cell(results, way, n) for n in counts)] for way in results]
    parts = [
        _table("tokens/s (milliseconds to the first token)", counts, figures),
        _table(f"tokens/s of {first}, divided by those of", counts, ratios("tokens_per_second")),
        _table(f"tokens for a second of processor time: {first}, divided by", counts, ratios("tokens_per_cpu_second")),
    ]
    return "\n\n".join(parts)


def _cell(results: Results, way: str, clients: int) -> str:
    speed = median(results, way, clients, "tokens_per_second")
    return f"{speed:.0f} ({1000 * median(results, way, clients, 'first'):.0f})"


def _table(title: str, counts: list[int], rows: list[list[str]]) -> str:
    head = [[title, *(f"{n} clients" for n in counts)], ["---"] * (len(counts) + 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [*head, *rows])
