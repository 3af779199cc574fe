"""`rayproxy routes`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Literal

from pydantic_settings import SettingsConfigDict

from rayproxy.cli.errors import CommandError
from rayproxy.report import status
from rayproxy.settings import Settings


class Routes(Settings):
    """List every RayService with its state, backend and reason, as the daemon last saw it."""

    model_config = SettingsConfigDict(cli_shortcuts={"output": "o"})

    output: Literal["table", "json"] = "table"
    """table or json"""

    def main(self) -> int:
        """Print what the daemon last wrote."""
        path = self.state / "status.json"
        if not path.exists():
            raise CommandError(f"no daemon has written {path}: is it running, and is RAYPROXY_STATE_DIR the same?")
        found = status.read(path).values()
        print(
            json.dumps([asdict(entry) for entry in found], indent=2) if self.output == "json" else status.table(found)
        )
        return 0
