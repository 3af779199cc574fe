"""What `rayproxy COMMAND --help` shows: the words of the settings, without Python's."""

from __future__ import annotations

import argparse
import ast
import re

_DEFAULT = re.compile(r" \(default(?P<factory> factory)?: (?P<value>(?:[^()]|\([^()]*\))*)\)$")
NO_WORD = "\0"  # what stands for None: no argument can be it, and a model may be called `null`, or `None`
_NOTHING = ("", NO_WORD, "()", "{}")
_METAVARS = {
    "str": "TEXT", f"{{str,{NO_WORD}}}": "TEXT", "int": "NUMBER", "float": "NUMBER",
    "Path": "PATH", f"{{Path,{NO_WORD}}}": "PATH",
    "tuple[str,...]": "A,B,...", "dict[str,str]": "NAME=VALUE,...",
}  # fmt: skip


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Show a default once, and none where there is none."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return super()._split_lines(told(text), width)

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        shown = super()._format_args(action, default_metavar)
        return _METAVARS.get(shown, shown)


def told(text: str) -> str:
    """Return what is said of an option, with the default that pydantic-settings added as a person would write it."""
    made = _DEFAULT.search(text)
    if not made:
        return text
    words, value = text[: made.start()], made["value"]
    if made["factory"] or value in _NOTHING or "default" in words:
        return words
    return f"{words} (default: {_written(value)})"


def _written(value: str) -> str:
    """Return a value as the setting is written."""
    if value.startswith("("):
        return ",".join(ast.literal_eval(value))
    if value in ("True", "False"):
        return value.lower()
    return value[:-2] if re.fullmatch(r"\d+\.0", value) else value
