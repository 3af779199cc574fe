"""Claims as text, in a ConfigMap's `data` or a file: `rayservice.chat: team-a 2026-01-02T03:04:05Z`. Pure.

Without a time the claim has no end. What is none of these is left alone, and told.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass

from rayproxy.dns_names import DNS_1035_LABEL, DNS_1123_LABEL
from rayproxy.kinds.claims import Claim, Name
from rayproxy.objects import rfc3339

MAX_PROBLEMS = 3  # that are told of one reading; more of them say nothing new

_KEY = re.compile(rf"([a-z]{{1,40}})\.({DNS_1035_LABEL.pattern})")
_VALUE = re.compile(rf"({DNS_1123_LABEL.pattern})(?: ([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T[0-9:]{{8}}Z))?")


@dataclass(frozen=True)
class Change:
    """What a claim becomes, where it still is what it was; None is no claim."""

    was: Claim | None
    becomes: Claim | None


Claims = Mapping[Name, Claim]
Changes = Mapping[Name, Change]


def read(data: object, latest: int) -> tuple[dict[Name, Claim], tuple[str, ...]]:
    """Return the claims, and what is wrong with entries that are none; no object can be gone after `latest`."""
    if not isinstance(data, dict):
        return {}, () if data is None else ("its entries are not a mapping",)
    claims: dict[Name, Claim] = {}
    problems: list[str] = []
    for key, value in data.items():
        try:
            name, claim = _claim(str(key), value if isinstance(value, str) else "", latest)
            claims[name] = claim
        except ValueError as error:
            problems.append(f"the entry {str(key)[:80]!r} is ignored: {error}")
    return claims, tuple(problems[:MAX_PROBLEMS])


def write(name: Name, claim: Claim | None) -> tuple[str, str | None]:
    """Return the entry of a claim, or of none."""
    key = ".".join(name)
    if claim is None:
        return key, None
    return key, claim.namespace if claim.gone is None else f"{claim.namespace} {rfc3339(claim.gone)}"


def due(claims: Claims, changes: Changes) -> dict[Name, Claim | None]:
    """Return what is still to be written: where somebody else changed a claim meanwhile, that word stays."""
    return {
        name: change.becomes
        for name, change in changes.items()
        if claims.get(name) == change.was and change.was != change.becomes
    }


def _claim(key: str, value: str, latest: int) -> tuple[Name, Claim]:
    if not (named := _KEY.fullmatch(key)):
        raise ValueError("it is called after no name: KIND.NAME is meant")
    if not (said := _VALUE.fullmatch(value)):
        raise ValueError("it holds no namespace, with or without a time after it")
    gone = int(dt.datetime.fromisoformat(said[2]).timestamp()) if said[2] else None  # raises ValueError
    if gone is not None and gone > latest:
        raise ValueError("its time is still to come")
    return (named[1], named[2]), Claim(said[1], gone)
