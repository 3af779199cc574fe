"""Read the Kubernetes objects out of the text of a file: YAML as Kubernetes takes it, or JSON.

Only what JSON has is made of it: a time stays a text, `1:30` is no number to the base of 60, and nothing else that
YAML can do is done. Whatever a file holds, what is wrong with it is a ValueError.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as _SafeLoader
except ImportError:  # a PyYAML without libyaml
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]

MAX_DEPTH = 200  # a RayService with its Pod templates has about 20
_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"
# What plain words mean, as YAML 1.1 has it; and what a value with such a tag must be.
_WORDS = {
    "null": ("~nN\0", r"~|null|Null|NULL|"),
    "bool": ("yYnNtTfFoO", r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF"),
    "int": ("-+0123456789", r"[-+]?(?:0b[01_]+|0[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)"),
    "float": (
        "-+0123456789.",
        r"[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
    ),
}
_PATTERNS = {_TAG + kind: re.compile(rf"(?:{pattern})\Z") for kind, (_, pattern) in _WORDS.items()}


class _Loader(_SafeLoader):
    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse merge keys: each level of them can be ten times the one before."""
        for key, _ in node.value:
            if key.tag == _MERGE:
                words = "merge keys (<<) are not read: write the fields out"
                raise yaml.constructor.ConstructorError(None, None, words, key.start_mark)


def _checked(tag: str, construct: Callable[[Any, Any], object]) -> Callable[[Any, Any], object]:
    """Return a constructor that refuses what PyYAML's own stumbles over, such as `!!int ''`."""

    def checked(loader: _Loader, node: yaml.Node) -> object:
        if isinstance(node, yaml.ScalarNode) and _PATTERNS[tag].match(node.value):
            return construct(loader, node)
        words = f"{str(node.value)[:40]!r} is no {tag.removeprefix(_TAG)}"
        raise yaml.constructor.ConstructorError(None, None, words, node.start_mark)

    return checked


_Loader.yaml_implicit_resolvers = {}
for _kind, (_first, _) in _WORDS.items():
    _Loader.add_implicit_resolver(_TAG + _kind, _PATTERNS[_TAG + _kind], [*_first.replace("\0", ""), ""])
_Loader.add_implicit_resolver(_MERGE, re.compile(r"<<\Z"), ["<"])
_Loader.yaml_constructors = {
    tag: _checked(tag, constructor) if tag in _PATTERNS else constructor
    for tag, constructor in _SafeLoader.yaml_constructors.items()
    if tag is None or tag.removeprefix(_TAG) in ("str", "seq", "map", *_WORDS)
}


def objects(text: str, *, is_json: bool) -> Iterator[dict[object, object] | None]:
    """Yield every object of a file, those of lists one by one, and None for what is no object; raise ValueError."""
    for document in [json.loads(text)] if is_json else _documents(text):
        if document is None:  # nothing between two lines of ---
            continue
        if not isinstance(document, dict):
            yield None
        elif _is_list(document):
            yield from _items(document)
        else:
            yield document


def _is_list(document: dict[object, object]) -> bool:
    kind = document.get("kind")
    return isinstance(kind, str) and kind.endswith("List") and (kind == "List" or "items" in document)


def _items(document: dict[object, object]) -> Iterator[dict[object, object] | None]:
    """Yield the items; as the API server gives a ServiceList, they say neither kind nor apiVersion of themselves."""
    kind, items = str(document["kind"]), document.get("items")
    if not isinstance(items, list | None):
        raise ValueError(f"the items of a {kind[:80]} are no list")  # noqa: TRY004 - a file's fault is a ValueError
    known: dict[object, object] = {}
    if kind != "List":
        known = {"apiVersion": document.get("apiVersion"), "kind": kind.removesuffix("List")}
    for item in items or ():
        yield known | item if isinstance(item, dict) else None


def _documents(text: str) -> list[object]:
    try:
        _check_depth(text)
        return list(yaml.load_all(text, _Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{where}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error).replace("\n", " ")) from error


def _check_depth(text: str) -> None:
    """Raise ValueError where lists and mappings nest too deep: libyaml's loader would crash the process."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise ValueError(f"lists and mappings nest deeper than {MAX_DEPTH}")
