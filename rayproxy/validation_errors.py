"""What is wrong with settings, in the words of the command line."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError


def reasons(error: ValidationError) -> Iterator[str]:
    """Yield for each setting that is wrong its flag, and why."""
    for detail in error.errors(include_url=False):
        flag = ".".join(str(part) for part in detail["loc"] if part != "[key]").replace("_", "-")
        reason = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":
            reason = "there is no such option"
        yield f"--{flag}: {reason}" if flag else reason
