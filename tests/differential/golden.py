"""The golden files: every difference that is known. nginx 1.22's whole, and of another only what it does otherwise.

make golden
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.differential import reasons
from tests.differential.answers import answers
from tests.differential.asks import asks
from tests.differential.observe import Differ, kinds, observe, written
from tests.differential.recorder import Recorder
from tests.differential.ways import image_nginx, version, ways
from tests.support.raw import NGINX

FOLDER = Path(__file__).parent / "golden"
WHOLE = "1.22"  # Debian 12's, where the tests run; the image has another
TABLES = {"request": asks, "answer": answers}

Blocks = dict[str, list[str]]  # {heading: lines}


def observed(title: str, differ: Differ) -> Blocks:
    """Send a table every way and return what differs."""
    return blocks("\n".join(written(observe(title, TABLES[title](), differ))))


def expected(title: str, nginx: str) -> Blocks:
    """Return what the golden files say of a table for this version of nginx."""
    whole = blocks(_read(title, WHOLE))
    return whole if nginx == WHOLE else whole | blocks(_read(title, nginx))


def write(title: str, nginx: str, found: Blocks) -> None:
    """Write what was observed."""
    if nginx != WHOLE:
        whole = expected(title, WHOLE)
        found = {heading: lines for heading, lines in found.items() if whole.get(heading) != lines}
    lines = [line for heading, block in found.items() for line in (heading, *block)]
    _path(title, nginx).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def blocks(text: str) -> Blocks:
    """Split a golden file's text at its headings."""
    found: Blocks = {}
    for line in text.splitlines():
        if line.startswith("# "):
            found[line] = []
        else:
            found[list(found)[-1]].append(line)
    return found


def known_kinds() -> set[tuple[str, str]]:
    """Return each (kind, way) of all golden files."""
    return {found for path in FOLDER.glob("*.txt") for found in kinds(path.read_text(encoding="utf-8"))}


def has(nginx: str) -> bool:
    """Tell whether there is a golden file for this version of nginx."""
    return all(_path(title, nginx).exists() for title in TABLES)


def _path(title: str, nginx: str) -> Path:
    return FOLDER / f"{title}s-{nginx}.txt"


def _read(title: str, nginx: str) -> str:
    return _path(title, nginx).read_text(encoding="utf-8")


def main() -> int:
    """Write all golden files and the table of docs/http.md; say what has no reason."""
    recorder = Recorder()
    for binary in (NGINX, image_nginx()):
        with ways(binary, recorder) as all_ways:
            for title in TABLES:
                write(title, version(binary), observed(title, Differ(recorder, all_ways)))
    recorder.close()
    reasons.DOCS.write_text(reasons.filled(), encoding="utf-8")
    missing = reasons.missing(known_kinds())
    for kind, way in sorted(missing):
        print(f"no reason in {reasons.PATH.name}: {kind} ({way})", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
