"""The table of docs/models.md: which engine serves which architecture. Run this file to write it anew.

.venv-serving/bin/python tests/serving/models/table.py
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
for folder in ("serving", "tests/serving", "tests/serving/models"):
    sys.path.insert(0, str(TOP / folder))
os.environ["HF_HUB_OFFLINE"] = "1"

import architectures  # noqa: E402 - found through the path above
import transformers  # noqa: E402
from compared import NOT_MADE, REFUSED, Row, examine  # noqa: E402

DOCUMENT = TOP / "docs" / "models.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
SECONDS = 300  # for one architecture
WIDEST = 110  # characters of a reason


def main() -> None:
    """Examine every architecture, each in a process of its own, and write the table; fail where one differs."""
    rows = [in_a_process(name) for name in architectures.names()]
    different = [row for row in rows if row.engine == "different"]
    for row in different:
        print(f"{row.name}: {row.words}", file=sys.stderr)
    if different:
        sys.exit(1)
    text = DOCUMENT.read_text(encoding="utf-8")
    head, tail = text.partition(BEGIN)[0], text.partition(END)[2]
    DOCUMENT.write_text(f"{head}{BEGIN}\n{table(rows)}{END}{tail}", encoding="utf-8")


def in_a_process(name: str) -> Row:
    """Return an architecture's row; one that takes its process with it is told as different."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(SECONDS)
        with contextlib.suppress(BaseException), tempfile.TemporaryDirectory() as folder:
            try:
                row = examine(name, Path(folder))
            except BaseException as error:  # noqa: BLE001 - it is told by the parent
                row = Row(name, "different", f"{type(error).__name__}: {error}")
            os.write(writing, json.dumps([row.engine, row.words[:1000]]).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:  # noqa: PTH123 - a descriptor
        said = pipe.read()
    os.waitpid(child, 0)
    engine, words = json.loads(said) if said else ("different", "its process ended without a word")
    print(f"{name}: {engine} {words}", file=sys.stderr, flush=True)
    return Row(name, engine, words)


def table(rows: list[Row]) -> str:
    """Return the table, and how many of each there are, with transformers' version."""
    counted = Counter(row.engine for row in rows)
    summary = (
        f"transformers {transformers.__version__}: of {len(rows)} architectures {counted['continuous']} are served by"
        f" continuous batching, {counted['generate']} by `generate`; {counted[REFUSED]} refused,"
        f" {counted[NOT_MADE]} not made."
    )
    lines = [summary, "", "| architecture | engine | why not in a batch |", "|---|---|---|"]
    lines += [f"| `{row.name}` | {row.engine} | {_short(row.words)} |" for row in rows]
    return "\n".join(lines) + "\n"


def documented() -> dict[str, str]:
    """Return the engine of each architecture as the document has it."""
    text = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    return dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", text, re.MULTILINE))


def _short(words: str) -> str:
    words = words.replace("|", "/").replace("`", "")
    return words if len(words) <= WIDEST else f"{words[:WIDEST].rpartition(' ')[0]} ..."


if __name__ == "__main__":
    main()
