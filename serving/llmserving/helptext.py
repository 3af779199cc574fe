"""What `llmserving --help` shows: the words of the settings, without Python's."""

from __future__ import annotations

import argparse
import re

_DEFAULT = re.compile(r" \(default: (?P<value>[^()]*)\)$")
_METAVARS = {"str": "TEXT", "SecretStr": "TEXT", "Path": "PATH", "int": "NUMBER", "float": "NUMBER"}


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Show each default as the setting is written, and none where there is none."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return super()._split_lines(_DEFAULT.sub(lambda made: _told(made["value"]), text), width)

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        shown = super()._format_args(action, default_metavar)
        return _METAVARS.get(shown.removeprefix("{").removesuffix(",null}"), shown)


def _told(value: str) -> str:
    if value == "null":
        return ""
    if value in ("True", "False"):
        value = value.lower()
    return f" (default: {value[:-2] if re.fullmatch(r'[0-9]+[.]0', value) else value})"
