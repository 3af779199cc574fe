"""Read the Kubernetes objects out of a file of manifests, YAML or JSON; a ValueError says what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from rayproxy.yaml_documents import documents


def objects(text: str, *, is_json: bool) -> Iterator[dict[object, object] | None]:
    """Yield every object of a file, those of lists one by one, and None for what is no object; raise ValueError."""
    for document in [json.loads(text)] if is_json else documents(text):
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
