"""The command line: `rayproxy COMMAND`, each command a settings class with a `main` method."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_settings import CliApp, CliSettingsSource, SettingsError

from rayproxy import VERSION
from rayproxy.checkpoint.refusal import RefusedError
from rayproxy.cli import COMMANDS, FORMER, streams
from rayproxy.cli.errors import CommandError
from rayproxy.cli.help import NO_WORD, HelpFormatter
from rayproxy.daemon import StartError
from rayproxy.kube.api import ApiError
from rayproxy.kube.session import CredentialsError
from rayproxy.ledger.base import StoreError
from rayproxy.nginx.process import NginxError
from rayproxy.nginx.templates import TemplateError
from rayproxy.policy_file import PolicyError
from rayproxy.sources.base import NotSyncedError, UnconfirmedError
from rayproxy.validation_errors import reasons

_EXPECTED = (
    StartError, CredentialsError, ApiError, NginxError, NotSyncedError, UnconfirmedError, TemplateError, OSError,
    CommandError, SettingsError, RefusedError, StoreError,
    PolicyError,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0 done, 1 failed, 2 not understood."""
    streams.prepare()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"rayproxy {VERSION}")
        return 0
    name = FORMER.get(arguments[0], arguments[0])
    command = COMMANDS.get(name)
    if command is None:
        print(f"rayproxy: there is no command {name!r}\n\n{_help()}", file=sys.stderr)
        return 2
    sys.argv[0] = f"rayproxy {name}"  # what --help shows as the program
    try:
        shown: CliSettingsSource[object] = CliSettingsSource(
            command, cli_exit_on_error=True, formatter_class=HelpFormatter, cli_parse_none_str=NO_WORD
        )
        with streams.written():
            return CliApp.run(command, cli_args=arguments[1:], cli_settings_source=shown).main()
    except ValidationError as error:
        for reason in reasons(error):
            print(f"rayproxy {name}: {reason}", file=sys.stderr)
        return 2
    except _EXPECTED as error:
        print(f"rayproxy {name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _help() -> str:
    lines = [f"  {name:10} {(command.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items()]
    return (
        "rayproxy keeps one nginx in front of every KubeRay RayService and KServe InferenceService.\n\n"
        "usage: rayproxy COMMAND [options]\n       rayproxy --version\n\n"
        + "\n".join(lines)
        + "\n\n`rayproxy COMMAND --help` lists the options; those of the first six are variables RAYPROXY_... too."
    )


if __name__ == "__main__":
    sys.exit(main())
