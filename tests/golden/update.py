"""Write the golden files, and what docs/ shows of them, from the commands at their heads.

make golden
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS.parent))

from tests.support import faults, gateways, golden, played, readme, routes, stories  # noqa: E402 - the path first


def main() -> None:
    """Rewrite all of them."""
    for path in golden.FILES:
        head = golden.head(path)
        ran = subprocess.run(
            [sys.executable, "-m", "rayproxy", *golden.arguments(path)],
            cwd=golden.INPUTS,
            env=os.environ | {"PYTHONPATH": str(TESTS.parent)},
            check=True,
            capture_output=True,
            text=True,
        )
        path.write_text(head + ran.stdout, encoding="utf-8")
    for case in routes.CASES:
        routes.out(case).write_text(routes.configuration(case), encoding="utf-8")
    for case in gateways.CASES:
        gateways.out(case).write_text(gateways.conditions(case), encoding="utf-8")
    for recording in played.RECORDED:
        played.golden(recording).write_text(played.told(recording), encoding="utf-8")
    (routes.FOLDER / "base.out.conf").write_text(routes.base(), encoding="utf-8")
    for name in stories.NAMES:
        stories.path(name).write_text(stories.told(name), encoding="utf-8")
    readme.PATH.write_text(readme.filled(), encoding="utf-8")
    faults.PATH.write_text(faults.filled(), encoding="utf-8")


if __name__ == "__main__":
    main()
