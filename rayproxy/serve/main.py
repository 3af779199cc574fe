"""The command line of `serve` and `unserve`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError

from rayproxy.api import ApiError, CredentialsError
from rayproxy.serve.command import Serve, Unserve
from rayproxy.serve.options import explain
from rayproxy.serve.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS: dict[str, type[Serve | Unserve]] = {"serve": Serve, "unserve": Unserve}


def main(arguments: Sequence[str]) -> int:
    """Run `serve ...` or `unserve ...`; return 0 done, 1 refused or failed, 2 not understood."""
    command, *rest = arguments
    try:
        return CliApp.run(COMMANDS[command], cli_args=rest).main()
    except ValidationError as error:
        sys.stderr.write(f"rayproxy {command}: {explain(error)}\n")
        return 2
    except (Refusal, ApiError, CredentialsError, SettingsError) as error:
        sys.stderr.write(f"rayproxy {command}: {error}\n")
        return 1
