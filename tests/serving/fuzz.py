"""Callers who send anything, and a neighbour who must never fail: python tests/serving/fuzz.py --minutes 10."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import tiny
from bodies import TEXT, Caller

CALLERS = 6
HANG_UPS = 0.1  # the share of callers who do not wait for the end
REFUSALS = {400, 404, 405, 413, 415, 422, 429}
NEIGHBOUR = {"prompt": "The quick", "max_tokens": 24, "temperature": 0, "ignore_eos": True}


@dataclass
class Report:
    """What came back: how often each status, how often the neighbour was answered, and what must not have been."""

    statuses: Counter = field(default_factory=Counter)
    neighbours: int = 0
    slowest: float = 0.0
    faults: list[str] = field(default_factory=list)


async def fuzz(url, seconds, seed=0):
    """Send calls for some seconds, and return what came back."""
    report, until = Report(), time.monotonic() + seconds
    async with httpx.AsyncClient(base_url=url, timeout=170) as client:
        usual = (await client.post(TEXT, json=NEIGHBOUR)).json()["choices"][0]["text"]
        callers = [_call(client, f"{seed}-{place}", until, report) for place in range(CALLERS)]
        await asyncio.gather(_be_a_neighbour(client, usual, until, report), *callers)
        ready = await client.get("/ready")
        if ready.status_code != 200:
            report.faults.append(f"not ready at the end: {ready.text}")
    return report


async def _be_a_neighbour(client, usual, until, report):
    while time.monotonic() < until:
        started = time.monotonic()
        response = await client.post(TEXT, json=NEIGHBOUR)
        report.slowest = max(report.slowest, time.monotonic() - started)
        report.neighbours += 1
        if response.status_code != 200 or response.json()["choices"][0]["text"] != usual:
            report.faults.append(f"the neighbour got {response.status_code}: {response.text}")
            return


async def _call(client, seed, until, report):
    caller, patience = Caller(seed), random.Random(seed)
    while time.monotonic() < until and len(report.faults) < 5:
        call = caller.call()
        try:
            async with client.stream(
                "POST", call.path, content=call.content, headers={"Content-Type": call.kind}
            ) as response:
                if patience.random() < HANG_UPS:
                    continue
                text = (await response.aread()).decode(errors="replace")
        except httpx.HTTPError as error:
            report.faults.append(f"{error!r} to {call.path} {call.content[:1500]!r}")
            return
        report.statuses[response.status_code] += 1
        if _is_wrong(response, text):
            report.faults.append(f"{response.status_code} {text[:500]} to {call.path} {call.content[:1500]!r}")


def _is_wrong(response, text):
    """Return whether an answer is neither one nor a refusal in words: a stream's errors come as events."""
    if response.status_code == 200:
        return '"code":5' in text and '"code":504' not in text
    return response.status_code not in REFUSALS or '"message":"' not in text


@contextmanager
def server(folder, engine):
    """Serve a model as a container would, in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "llmserving", f"--model_dir={folder}", f"--engine={engine}", f"--port={port}"]
    path = Path(__file__).resolve().parents[2] / "serving"
    environment = {**os.environ, "PYTHONPATH": str(path)}
    command += ["--host=127.0.0.1", "--max_waiting=4000"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)  # a line for each call
    url = f"http://127.0.0.1:{port}"
    try:
        while not _is_ready(url):
            assert process.poll() is None, "the server ended"
            time.sleep(0.2)
        yield url
        assert process.poll() is None, "the server ended"
    finally:
        process.terminate()
        process.wait(60)


def _is_ready(url):
    try:
        return httpx.get(f"{url}/ready").status_code == 200
    except httpx.HTTPError:
        return False


def main():
    """Fuzz each transformers engine for half of the time; end with 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options, wrong = parser.parse_args(), False
    with tempfile.TemporaryDirectory() as folder:
        tiny.save_base(Path(folder))
        for engine in ("continuous", "generate"):
            with server(folder, engine) as url:
                report = asyncio.run(fuzz(url, options.minutes * 30, options.seed))
            print(f"{engine}: seed {options.seed}, statuses {dict(sorted(report.statuses.items()))}", end=", ")
            print(f"{report.neighbours} answers to the neighbour, the slowest {report.slowest:.1f} s")
            print(*report.faults, sep="\n", end="\n" if report.faults else "")
            wrong = wrong or bool(report.faults)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
