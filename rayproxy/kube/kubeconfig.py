"""Read kubeconfigs as kubectl reads them, where the `kubernetes` package does otherwise.

Of several files it takes the last one's current context, and kubectl the first one's: a command would go to another
cluster than the kubectl beside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes.config.kube_config import ConfigNode

_AT_HOME = "~/.kube/config"
_PARTS = ("clusters", "contexts", "users")


class KubeconfigError(Exception):
    """Say what is wrong with a kubeconfig."""


@dataclass(frozen=True)
class Kubeconfig:
    """What the files say together, as the `kubernetes` package holds it, and the context that counts."""

    merged: dict[str, Any]
    context: str

    @property
    def namespace(self) -> str:
        """Return the namespace that the context names, else "default"."""
        contexts = ConfigNode("contexts", self.merged["contexts"])  # type: ignore[no-untyped-call]
        chosen = contexts.get_with_name(self.context)["context"]  # type: ignore[no-untyped-call]
        return str(chosen.safe_get("namespace") or "default")


def location(path: str | None) -> str:
    """Return the file, or files with colons between them, that are meant."""
    return path or os.environ.get("KUBECONFIG") or _AT_HOME


def read(path: str | None, context: str | None) -> Kubeconfig:
    """Read the files; raise KubeconfigError, and of one that is being written whatever its parsers raise."""
    found = list(_files(location(path)))
    if not found:
        raise KubeconfigError("there is no such file")
    files = [(file, config) for file, config in found if config is not None]
    if not files:
        raise KubeconfigError("there is nothing in it")
    merged: dict[str, Any] = {part: [] for part in _PARTS}
    for file, config in files:
        for part in _PARTS:
            _add(merged[part], config.get(part) or [], f"{file}/{part}", file)
    chosen = context or next(filter(None, (config.get("current-context") for _, config in files)), None)
    if not chosen:
        raise KubeconfigError("it names no current context, and no other was asked for")
    return Kubeconfig(merged, chosen)


def _files(where: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Yield the files that are there, the first first, with what they say: one may be empty."""
    for each in filter(None, where.split(os.pathsep)):
        file = Path(each).expanduser()
        try:
            config = yaml.safe_load(file.read_bytes())
        except FileNotFoundError:
            continue
        if not isinstance(config, dict | None):
            raise KubeconfigError(f"{file} is no mapping")
        yield str(file), config


def _add(nodes: list[Any], entries: list[Any], name: str, file: str) -> None:
    """Take over the entries whose names are new; each knows its file, which what it says of paths is relative to."""
    for entry in entries:
        node = ConfigNode(name, entry, file)  # type: ignore[no-untyped-call]
        if all(each["name"] != node["name"] for each in nodes):
            nodes.append(node)
