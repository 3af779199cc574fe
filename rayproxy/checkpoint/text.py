"""Manifests as text."""

from __future__ import annotations

import json
from typing import Any

import yaml

from rayproxy.checkpoint.refusal import RefusedError
from rayproxy.yaml_documents import documents


class _Dumper(yaml.SafeDumper):
    """Write texts of several lines as blocks, so that people can read them."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def dump(manifest: dict[str, Any], output: str) -> str:
    """Return `manifest` as "yaml" or "json"."""
    if output == "json":
        return json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    return yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)


def load(text: str, source: str) -> object:
    """Return the one document in `text`, YAML or JSON."""
    found = filled(text, source)
    if len(found) != 1:
        raise RefusedError(f"{source} holds {len(found)} documents: give a file with one LLMCheckpoint")
    return found[0]


def filled(text: str, source: str) -> list[object]:
    """Return the documents in `text` that hold something; raise RefusedError."""
    try:
        return [document for document in documents(text) if document is not None]
    except ValueError as error:
        raise RefusedError(f"{source} is not YAML: {error}") from error
