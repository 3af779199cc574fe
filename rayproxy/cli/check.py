"""`rayproxy check`."""

from __future__ import annotations

from rayproxy.cli.checks import run_checks
from rayproxy.settings import Settings


class Check(Settings):
    """Look at settings, permissions, nginx and folders; each line is ok or says what to do."""

    def main(self) -> int:
        """Print one line for each check; exit code 1 if one failed."""
        failed = False
        for name, wrong in run_checks(self):
            failed |= wrong is not None
            print(f"{'FAIL' if wrong else 'ok':4}  {name}" + (f": {wrong}" if wrong else ""))
        return 1 if failed else 0
