"""The types of the options: each a full-match check, and how a flag or a values file spells it."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BeforeValidator, StringConstraints
from pydantic_settings import NoDecode

from rayproxy.dns_names import DNS_1123_LABEL

_LABEL_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL_VALUE = rf"(?:{_LABEL_NAME})?"
_LABEL_KEY = rf"(?:[a-z0-9][-a-z0-9.]{{0,252}}/)?{_LABEL_NAME}"
_PATH = r"(?:/(?!\.\.?(?:/|$))[\w.@+=:,-]+)+/?"
_DNS_SUBDOMAIN = r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
_EFFECTS = "NoSchedule|PreferNoSchedule|NoExecute"


def _full_match(pattern: str, wanted: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"{value!r} is not {wanted}")
        return value

    return AfterValidator(check)


# KubeRay 1.4 and newer accept no longer name, since names of Pods and Services are built from it.
# What older ones make of it, see manifest.py.
ServiceName = Annotated[
    str,
    _full_match(
        r"[a-z](?:[-a-z0-9]{0,45}[a-z0-9])?",
        "a name for a RayService: at most 47 small letters, digits and dashes, a letter first, no dash last",
    ),
]
ObjectName = Annotated[str, _full_match(_DNS_SUBDOMAIN, "the name of a Kubernetes object")]
# The grammar of references in github.com/distribution/reference: [domain/]path[:tag][@digest]
_DOMAIN_PART = r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?"
_DOMAIN = rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_IMAGE_PART = r"[a-z0-9]+(?:(?:[_.]|__|-+)[a-z0-9]+)*"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
ImageReference = Annotated[
    str,
    _full_match(
        rf"(?:{_DOMAIN}/)?{_IMAGE_PART}(?:/{_IMAGE_PART})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@{_DIGEST})?",
        "the reference of an image, such as registry.example.com/team/model:1",
    ),
]
AbsolutePath = Annotated[str, _full_match(_PATH, "an absolute path without spaces and '..'")]
RootPath = Annotated[
    str,
    _full_match(
        r"(?:(?:/(?!\.\.?(?:/|$))[\w.~-]+)+)?", "a path such as /apis/rayservice/NAME, without a slash at its end"
    ),
]
_QUANTITY = r"(\d{1,15}(?:\.\d{1,9})?)(m|[kMGTPE]|[KMGTPE]i)?"
_DECIMAL = {suffix: Fraction(1000) ** n for n, suffix in enumerate(["m", "", *"kMGTPE"], -1)}
_BINARY = {"": Fraction(1)} | {f"{suffix}i": Fraction(1024) ** n for n, suffix in enumerate("KMGTPE", 1)}


def canonical(quantity: str) -> str:
    """Return a quantity as Kubernetes writes it back (`2` for `2000m`): else KubeRay's own edits look like another's.

    Source: apimachinery's Quantity; the largest suffix with which the number stays whole, a binary one only where it
    was written with one and is a whole number of 1024 or more.
    """
    value = amount(quantity)
    if value is None:
        return quantity
    if not value:
        return "0"
    binary = quantity.endswith("i") and value >= _BINARY["Ki"] and value.denominator == 1
    units = _BINARY if binary else _DECIMAL
    whole = [(unit, suffix) for suffix, unit in units.items() if (value / unit).denominator == 1]
    return f"{value / max(whole)[0]}{max(whole)[1]}" if whole else quantity


def amount(quantity: str) -> Fraction | None:
    """Return the number that a quantity stands for, None where it is not one of ours."""
    match = re.fullmatch(_QUANTITY, quantity)
    return Fraction(match[1]) * (_BINARY | _DECIMAL)[match[2] or ""] if match else None


def _spelled(value: object) -> object:
    """Return a number as text: YAML makes one of `cpu: 1.5`, which Kubernetes takes as well as `cpu: "1.5"`."""
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")  # no quantity of ours has an exponent
    return str(value) if isinstance(value, int) else value


Quantity = Annotated[
    str,
    BeforeValidator(_spelled),
    _full_match(_QUANTITY, "a quantity, such as 6, 500m or 24Gi"),
    AfterValidator(canonical),
]
RayVersion = Annotated[str, _full_match(r"\d{1,3}\.\d{1,3}\.\d{1,3}", "a version of Ray, such as 2.60.0")]
Word = Annotated[str, _full_match(r"[\w.-]{1,63}", "one word")]
Bucket = Annotated[str, _full_match(r"[\w.-]{0,63}", "the name of a bucket")]
ModelName = Annotated[str, _full_match(r"[\w.:/@-]{1,200}", "a model's name without spaces")]
ImportPath = Annotated[
    str,
    _full_match(r"[A-Za-z_]\w*(?:\.\w+)*[.:][A-Za-z_]\w*", "an import path, such as inference.deployment"),
]
WorkingDir = Annotated[
    str,
    _full_match(
        rf"(?:file://{_PATH}|local://{_PATH}|(?:https|s3|gs)://[\w.:/@+=-]+)",
        "a working directory that Ray takes, such as file:///home/inference/inference.zip",
    ),
]
ProxyUrl = Annotated[
    str,
    _full_match(r"https?://[\w.:\[\]-]+(?:/[\w./-]*)?", "the proxy's address, such as http://127.0.0.1:8080"),
]
Text = Annotated[str, StringConstraints(max_length=4096, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")]


HostPort = Annotated[
    str,
    _full_match(
        r"(?:[A-Za-z0-9](?:[-A-Za-z0-9.]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]):[1-9]\d{0,4}",
        "HOST:PORT, such as redis.cache.svc:6379",
    ),
]


def namespace(text: str) -> str:
    """Return the name of a namespace as it is; it becomes part of paths at the API server."""
    if not DNS_1123_LABEL.fullmatch(text):
        wanted = "the name of a namespace: at most 63 small letters, digits and dashes, no dash first or last"
        raise ValueError(f"{text!r} is not {wanted}")
    return text


class SecretKey(NamedTuple):
    """Name a Secret and a key in it."""

    name: str
    key: str


def secret_key(text: str) -> SecretKey:
    """Read `NAME[:KEY]`; the key is `password` where none is given."""
    match = re.fullmatch(rf"({_DNS_SUBDOMAIN})(?::([-\w.]{{1,253}}))?", text)
    if not match:
        raise ValueError(f"{text!r} is not NAME or NAME:KEY, a Secret and a key in it")
    return SecretKey(match[1], match[2] or "password")


class Steps(NamedTuple):
    """Say how much of the traffic moves at once, and how often."""

    percent: int
    seconds: int


def steps(text: str) -> Steps:
    """Read `PERCENT%:SECONDS`."""
    match = re.fullmatch(r"(\d{1,3})%:(\d{1,5})", text)
    if not match or not 1 <= int(match[1]) <= 100 or int(match[2]) < 1:  # noqa: PLR2004 - percent
        raise ValueError(f"{text!r} is not PERCENT%:SECONDS, such as 20%:30: steps of the traffic, and between them")
    return Steps(int(match[1]), int(match[2]))


class Volume(NamedTuple):
    """Name a claim, and a path in it ("" is all of it)."""

    claim: str
    path: str


def volume(uri: str) -> Volume:
    """Read `pvc://NAME/PATH`."""
    match = re.fullmatch(rf"pvc://({_DNS_SUBDOMAIN})({_PATH})?/?", uri)
    if not match:
        raise ValueError(f"{uri!r} is not pvc://NAME or pvc://NAME/PATH, a volume claim and a path in it")
    return Volume(match[1], (match[2] or "").strip("/"))


def toleration(text: str) -> dict[str, str]:
    """Read `KEY[=VALUE][:EFFECT]`, a taint as kubectl writes it."""
    match = re.fullmatch(rf"({_LABEL_KEY})(?:=({_LABEL_VALUE}))?(?::({_EFFECTS}))?", text)
    if not match:
        raise ValueError(f"{text!r} is not KEY[=VALUE][:EFFECT], a taint; effects: {_EFFECTS.replace('|', ', ')}")
    key, value, effect = match.groups()
    how = {"operator": "Exists"} if value is None else {"operator": "Equal", "value": value}
    return {"key": key, **how, **({"effect": effect} if effect else {})}


def _readable_by(read: Callable[[str], object]) -> AfterValidator:
    def check(value: str) -> str:
        read(value)
        return value

    return AfterValidator(check)


def _listed(value: object) -> object:
    return [item for item in value.split(",") if item] if isinstance(value, str) else value


def _paired(value: object) -> object:
    """Turn `A=1,B=2` into a mapping; a value with a comma in it can only stand in a values file."""
    if not isinstance(value, str):
        return value
    pairs: dict[str, str] = {}
    for item in filter(None, value.split(",")):
        name, separator, text = item.partition("=")
        if not separator:
            raise ValueError(f"{item!r} is not NAME=VALUE; a value that has a comma belongs in the values file")
        if name in pairs:
            raise ValueError(f"{name!r} is given twice")
        pairs[name] = text
    return pairs


StorageUri = Annotated[str, _readable_by(volume)]
SecretReference = Annotated[str, _readable_by(secret_key)]
Namespace = Annotated[str, _readable_by(namespace)]
Increments = Annotated[str, _readable_by(steps)]
Toleration = Annotated[str, _readable_by(toleration)]
EnvName = Annotated[str, _full_match(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable")]
LabelKey = Annotated[str, _full_match(_LABEL_KEY, "a label's key")]
LabelValue = Annotated[str, _full_match(_LABEL_VALUE, "a label's value")]
# NoDecode: the command line hands repeated flags over joined by commas, and reads no JSON into them.
Tolerations = Annotated[tuple[Toleration, ...], NoDecode, BeforeValidator(_listed)]
Names = Annotated[tuple[ObjectName, ...], NoDecode, BeforeValidator(_listed)]
Env = Annotated[dict[EnvName, Text], NoDecode, BeforeValidator(_paired)]
NodeSelector = Annotated[dict[LabelKey, LabelValue], NoDecode, BeforeValidator(_paired)]
