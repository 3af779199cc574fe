"""Manifests as text."""

from __future__ import annotations

import json
from typing import Any

import yaml

from rayproxy.checkpoint.refusal import RefusedError


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
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise RefusedError(f"{source} is not YAML: {error}") from error
    if len(documents) != 1:
        raise RefusedError(f"{source} holds {len(documents)} documents: give a file with one LLMCheckpoint")
    return documents[0]
