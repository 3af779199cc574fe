"""Measure the model server beside other ways to serve the same model; print a table, write JSON.

    python -m bench.serving [--model FOLDER] [--vllm PYTHON] [--rounds 3]

All are up at once and take turns, in another order each time, so that what else the machine does, and what the one
before leaves behind, touches them alike: read the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import processes

from bench.serving import ROOT, model, report, ways

if TYPE_CHECKING:
    from bench.serving.report import Results

# clients: how many questions each asks, so that no step takes much longer than the others
STEPS = {1: 4, 4: 2, 16: 2, 64: 1}


def main() -> None:
    """Read the arguments, measure, report."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch, ExitStack() as stack:
        folder = arguments.model or model.build(ROOT / "build" / "bench-model")
        results = _measure(_start(stack, arguments, folder.resolve(), Path(scratch)), arguments)
    print(report.tables(results, arguments.clients, next(iter(results))))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description="Measure the model server.")
    parser.add_argument("--model", type=Path, help="a model's folder (default: one made for this)")
    parser.add_argument("--vllm", type=Path, help="the Python of an environment with vLLM; none: without it")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="transformers serve too")
    parser.add_argument("--original", action=argparse.BooleanOptionalAction, default=True, help="its way too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=32, help="length of each answer")
    parser.add_argument("--clients", type=int, nargs="+", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench-serving.json")
    return parser.parse_args()


def _start(stack: ExitStack, arguments: argparse.Namespace, folder: Path, scratch: Path) -> list[ways.Way]:
    ways.end_cleanly_on_sigterm()
    on_ray = ways.ray_serve(folder, scratch / "ray", original=arguments.original)
    started: list[ways.Way] = [*stack.enter_context(on_ray)]
    started += stack.enter_context(ways.engine_alone(folder))
    for batching in (False, True) if arguments.peers else ():
        log = scratch / f"transformers-{batching}.log"
        started += stack.enter_context(ways.transformers_serve(folder, log, batching=batching))
    if arguments.vllm:
        started += stack.enter_context(ways.vllm(arguments.vllm, folder, scratch / "vllm.log"))
    return started


def _measure(started: list[ways.Way], arguments: argparse.Namespace) -> Results:
    results: Results = {way.name: {clients: [] for clients in arguments.clients} for way in started}
    for way in started:
        way.measure(2, 1, 8)  # what is compiled or cached at first use
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    for turn in range(arguments.rounds):
        for clients in arguments.clients:
            for way in random.sample(started, len(started)):
                figures = _one(way, clients, arguments.tokens)
                results[way.name][clients].append(figures)
                _say(f"round {turn + 1}, {clients} clients, {way.name}: {figures['tokens_per_second']:.0f} tokens/s")
        arguments.json.write_text(json.dumps({"tokens": arguments.tokens, "results": results}))
    return results


def _one(way: ways.Way, clients: int, tokens: int) -> dict[str, float]:
    """Return a way's figures, with the processor time that they took."""
    way.measure(min(clients, 4), 1, 8)  # what the machine has put aside of it while the others had their turn
    before = sum(map(processes.cpu_seconds, way.pids))
    figures = way.measure(clients, STEPS[clients], tokens)
    used = sum(map(processes.cpu_seconds, way.pids)) - before
    return {**figures, "tokens_per_cpu_second": figures["tokens"] / used}


def _say(line: str) -> None:
    load = os.getloadavg()[0]
    print(f"{line} (load {load:.1f})", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
