"""The list of faults in docs/faults.md, made from tests/golden/faults.toml and the tests' own marks."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).parents[1]
PATH = TESTS.parent / "docs" / "faults.md"
LISTED = TESTS / "golden" / "faults.toml"
_PART = re.compile(r"(<!-- faults -->\n).*?(<!-- end -->)", re.DOTALL)


def filled() -> str:
    """Return the page with its tables written anew."""
    return _PART.sub(lambda part: part[1] + _tables() + part[2], PATH.read_text(encoding="utf-8"))


def listed() -> dict[int, str]:
    """Return {number: what happens}."""
    return {number: happens for part in _parts() for number, happens, _ in part["faults"]}


def marked() -> dict[int, list[str]]:
    """Return {number: the test files with its mark}."""
    found: dict[int, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        name = str(path.relative_to(TESTS))
        for number in sorted(_marks(ast.parse(path.read_text(encoding="utf-8")))):
            found[number].append(name)
    return found


def _marks(tree: ast.Module) -> set[int]:
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    marks = (call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "fault")
    arguments = (argument.value for call in marks for argument in call.args if isinstance(argument, ast.Constant))
    return {value for value in arguments if isinstance(value, int)}


def _parts() -> list[dict]:
    return tomllib.loads(LISTED.read_text(encoding="utf-8"))["part"]


def _tables() -> str:
    marks = marked()
    return "".join(_table(part, marks) for part in _parts())


def _table(part: dict, marks: dict[int, list[str]]) -> str:
    rows = [
        f"| {number} | {happens} | {seen} | {', '.join(marks[number])} |" for number, happens, seen in part["faults"]
    ]
    return "\n".join([f"\n## {part['name']}\n", "| | fault | what is seen | tests |", "|---|---|---|---|", *rows, ""])
