"""The record of what rayproxy applied last, an annotation of the RayService. Pure.

managedFields say who owns a field and not which value it was given. When somebody else's Update has taken a whole list
over, only the record tells whether anything in it was changed.
"""

from __future__ import annotations

import json
from typing import Any

from rayproxy.checkpoint.ownership import applied_fields
from rayproxy.objects import dig, text

RECORD = "rayproxy/last-applied"

Object = dict[str, Any]


def with_record(manifest: Object) -> Object:
    """Return `manifest` with the record of itself."""
    annotations = manifest["metadata"].get("annotations", {}) | {RECORD: json.dumps(manifest, separators=(",", ":"))}
    return manifest | {"metadata": manifest["metadata"] | {"annotations": annotations}}


def last_applied(found: Object) -> Object | None:
    """Return what rayproxy applied last, None where that is not recorded, or not by rayproxy."""
    if dig(applied_fields(found), "f:metadata", "f:annotations", f"f:{RECORD}") is None:
        return None
    try:
        manifest = json.loads(text(found, "metadata", "annotations", RECORD))
    except (ValueError, RecursionError):
        return None
    same = dig(manifest, "metadata", "name") == found["metadata"]["name"] and isinstance(dig(manifest, "spec"), dict)
    return manifest if same else None
