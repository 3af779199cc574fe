"""Why a difference is right, or cannot be helped: reasons.toml, and the table of docs/http.md that is made from it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PATH = Path(__file__).parent / "reasons.toml"
DOCS = Path(__file__).parents[2] / "docs/http.md"
PROPER = re.compile(r"(RFC [0-9]{4}, [0-9.]+(?:; |$)|nginx: |decision: )")

SECTIONS = {
    "door": "Always",
    "regex": "With the template `regex` only",
    "omitted": "Not with the template `regex`, though always with `prefix`",
    "streamed": "For a model in `RAYPROXY_STREAM_BODIES`, whose request body is neither gathered nor given a length",
    "frontend": "In `examples/frontend`, before the proxy is reached",
    "plain": "Where another proxy in front speaks HTTP/1.0, as nginx does by default",
}
SEEN_ON = {  # what has a reason in a section is seen on one of these, and but for `door` not on `prefix`
    "door": {"prefix"},
    "regex": {"regex"},
    "streamed": {"streamed"},
    "frontend": {"frontend+prefix", "frontend+regex"},
    "plain": {"plain+prefix"},
}
_PART = re.compile(r"(<!-- differences -->\n).*?(<!-- end -->)", re.DOTALL)


@cache
def table() -> dict[str, dict[str, str]]:
    """Return {section: {kind: reason}}."""
    found = tomllib.loads(PATH.read_text(encoding="utf-8"))
    assert found.keys() <= SECTIONS.keys()
    return found


def sections(way: str) -> list[str]:
    """Return the sections whose reasons hold on a way."""
    return ["door", *(part for part in way.split("+") if part in SEEN_ON)]


def reason(kind: str, way: str) -> str:
    """Return the reason for a difference on a way, "" where there is none."""
    return next((found[kind] for name in sections(way) if kind in (found := table().get(name, {}))), "")


def missing(known: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the (kind, way) that have no reason."""
    return {(kind, way) for kind, way in known if not reason(kind, way)}


def unused(known: set[tuple[str, str]]) -> list[str]:
    """Return the reasons of differences that are not there, or not where the section says."""
    ways = {kind: {way for other, way in known if other == kind} for kind, _ in known}
    return [
        f"{section}: {kind}"
        for section in SEEN_ON
        for kind in table()[section]
        if not ways.get(kind, set()) & SEEN_ON[section] or (section != "door" and "prefix" in ways[kind])
    ]


def omitted(known: set[tuple[str, str]]) -> set[str]:
    """Return what happens with the template `prefix` and not with `regex`."""
    prefix, regex = ({kind for kind, way in known if way == name} for name in ("prefix", "regex"))
    return prefix - regex


def filled() -> str:
    """Return docs/http.md with its table written anew."""
    return _PART.sub(lambda part: part[1] + docs_table() + part[2], DOCS.read_text(encoding="utf-8"))


def docs_table() -> str:
    """Return a table for each section."""
    return "\n".join(_section(name, table()[name]) for name in SECTIONS)


def _section(name: str, kinds: dict[str, str]) -> str:
    rows = [f"| {_cell(kind)} | {_cell(why)} |" for kind, why in kinds.items()]
    return "\n".join([f"\n**{SECTIONS[name]}**\n", "| difference | reason |", "|---|---|", *rows, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
