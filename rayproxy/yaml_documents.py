"""Read the documents out of a text that a person wrote: YAML as Kubernetes takes it, hence JSON as well.

Only what JSON has is made of it: a time stays a text, `1:30` is no number to the base of 60, and nothing else that
YAML can do is done. Whatever the text holds, what is wrong with it is a ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Callable
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
    "int": ("-+0123456789", r"[-+]?(?:0b_*[01][01_]*|0[0-7_]+|0x_*[0-9a-fA-F][0-9a-fA-F_]*|0|[1-9][0-9_]*)"),
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


class _UniqueLoader(_Loader):
    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse a key that stands in a mapping twice: what stands under all but the last one would be lost."""
        super().flatten_mapping(node)
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                words = f"the key {key.value[:40]!r} stands here a second time"
                raise yaml.constructor.ConstructorError(None, None, words, key.start_mark)
            seen.add(key.value)


def documents(text: str | bytes, *, unique: bool = False) -> list[object]:
    """Return every document, None for an empty one; raise ValueError with the line, for a key twice if `unique`."""
    try:
        _check_depth(text)
        return list(yaml.load_all(text, _UniqueLoader if unique else _Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{where}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error).replace("\n", " ")) from error


def _check_depth(text: str | bytes) -> None:
    """Raise ValueError where lists and mappings nest too deep: libyaml's loader would crash the process."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise ValueError(f"lists and mappings nest deeper than {MAX_DEPTH}")
