"""The tables of decisions in the code's own docstrings, and which of their rows a golden case shows."""

from __future__ import annotations

from pathlib import Path

import yaml


def rows(doc: str | None) -> dict[str, str]:
    """Return {row: what becomes of it} of a docstring's tables; a line without a name goes on with the one before."""
    cells = [[cell.strip() for cell in line.split(" | ")] for line in str(doc).splitlines() if " | " in line]
    return {row: becomes for row, *_, becomes in cells if row not in ("", "row") and row.strip("-")}


def shown(case: Path) -> list[str]:
    """Return the rows that the first document of a case names."""
    return list(next(yaml.safe_load_all(case.read_text(encoding="utf-8"))).get("shows", ()))
