"""The command line of `serve` and `unserve`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliSubCommand,
    SettingsConfigDict,
    SettingsError,
)

from rayproxy.serve.command import Serve, Unserve  # noqa: TC001 - pydantic reads the annotations
from rayproxy.serve.options import explain

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Commands(BaseSettings):
    """Serve fine-tuned checkpoints behind the proxy."""

    model_config = SettingsConfigDict(
        cli_prog_name="rayproxy",
        env_prefix="RAYPROXY_COMMAND_",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
    )

    serve: CliSubCommand[Serve]
    unserve: CliSubCommand[Unserve]

    def cli_cmd(self) -> None:
        """Run the command that was named."""
        CliApp.run_subcommand(self)


def main(arguments: Sequence[str]) -> None:
    """Run `serve ...` or `unserve ...`; exit with 2 where the flags are wrong, with 1 where it is refused."""
    try:
        CliApp.run(_Commands, cli_args=list(arguments))
    except ValidationError as error:
        sys.stderr.write(f"rayproxy {arguments[0]}: {explain(error, arguments[0])}\n")
        raise SystemExit(2) from error
    except SettingsError as error:
        sys.stderr.write(f"rayproxy: {error}\n")
        raise SystemExit(2) from error
