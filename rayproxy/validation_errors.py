"""What is wrong with settings, in the words of the command line."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_WANTED = {
    "string_type": "a text", "dict_type": "a mapping", "model_type": "a mapping", "list_type": "a list",
    "tuple_type": "a list",
}  # fmt: skip
_KINDS = {bool: "a boolean", int: "a number", float: "a number", str: "a text", dict: "a mapping", list: "a list"}


def reasons(error: ValidationError) -> Iterator[str]:
    """Yield for each setting that is wrong its flag, and why."""
    for detail in error.errors(include_url=False):
        flag = _flag(detail)
        yield f"--{flag}: {_reason(detail)}" if flag else _reason(detail)


def _flag(detail: ErrorDetails) -> str:
    """Return the flag, and what of its value is meant: only the flag is spelled with dashes."""
    parts = [str(part) for part in detail["loc"] if part != "[key]"]
    return ".".join([*(part.replace("_", "-") for part in parts[:1]), *parts[1:]])


def _reason(detail: ErrorDetails) -> str:
    if detail["type"] == "extra_forbidden":
        return "there is no such option"
    if detail["type"] in _WANTED:
        return _of_another_kind(detail["input"], _WANTED[detail["type"]])
    return detail["msg"].removeprefix("Value error, ")


def _of_another_kind(value: object, wanted: str) -> str:
    """Say what YAML made of something; the value itself may be a secret."""
    kind = "nothing" if value is None else _KINDS.get(type(value), f"a {type(value).__name__}")
    mend = ""
    if wanted == "a mapping":
        mend = ": write NAME: VALUE"
    elif wanted == "a text" and value is None:
        mend = ": an empty one is ''"
    elif wanted == "a text" and isinstance(value, bool | int | float):
        mend = ": write it in quotes"
    return f"{kind} where {wanted} is wanted{mend}"
