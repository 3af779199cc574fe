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


def ratio(results: Results, way: str, other: str, clients: int) -> float:
    """Return the middle of the rounds' ratios of tokens per second: neighbours on the machine slow both."""
    pairs = zip(results[way][clients], results[other][clients], strict=True)
    return statistics.median(one["tokens_per_second"] / two["tokens_per_second"] for one, two in pairs)


def table(results: Results, counts: Iterable[int], first: str) -> str:
    """Return the figures as a Markdown table, and the ratios of the first way to the others."""
    counts = list(counts)
    head = "| tokens/s (median first token, ms) | " + " | ".join(f"{n} clients" for n in counts) + " |"
    lines = [head, "|---" * (len(counts) + 1) + "|"]
    lines += [_row(way, [_cell(results, way, n) for n in counts]) for way in results]
    lines += ["", f"| {first}, divided by | " + " | ".join(f"{n} clients" for n in counts) + " |"]
    lines += ["|---" * (len(counts) + 1) + "|"]
    lines += [_row(way, [f"{ratio(results, first, way, n):.2f}" for n in counts]) for way in results if way != first]
    return "\n".join(lines)


def _cell(results: Results, way: str, clients: int) -> str:
    speed = median(results, way, clients, "tokens_per_second")
    return f"{speed:.0f} ({1000 * median(results, way, clients, 'first'):.0f})"


def _row(name: str, cells: list[str]) -> str:
    return f"| {name} | " + " | ".join(cells) + " |"
