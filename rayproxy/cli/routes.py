"""`rayproxy routes`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Literal

from pydantic_settings import SettingsConfigDict

from rayproxy.cli import claims
from rayproxy.cli.errors import CommandError
from rayproxy.report import status
from rayproxy.settings import Settings


class Routes(Settings):
    """List every model with its state, backend, ready endpoints and reason, as the daemon last saw it."""

    model_config = SettingsConfigDict(cli_shortcuts={"output": "o"})

    held: bool = False
    """list the names instead that are held for a namespace, and until when"""
    output: Literal["table", "json"] = "table"
    """table or json"""

    def main(self) -> int:
        """Print what the daemon last wrote, or what is held."""
        if self.held:
            return self._print_held()
        path = self.state / "status.json"
        if not path.exists():
            raise CommandError(f"no daemon has written {path}: is it running, and is RAYPROXY_STATE_DIR the same?")
        found = status.read(path).values()
        print(
            json.dumps([asdict(entry) for entry in found], indent=2) if self.output == "json" else status.table(found)
        )
        return 0

    def _print_held(self) -> int:
        found = claims.open_claims(self)({})
        for problem in found.problems:
            print(problem, file=sys.stderr)
        shown = claims.as_json if self.output == "json" else claims.table
        print(shown(found.claims, self.name_hold))
        return 0
