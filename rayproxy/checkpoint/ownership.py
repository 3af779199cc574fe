"""Who made an object, by its managedFields. Pure."""

from __future__ import annotations

from typing import Any

MANAGER = "rayproxy"

Object = dict[str, Any]


def made_by_rayproxy(found: Object) -> bool:
    """Tell whether `rayproxy deploy` applied this object."""
    return any(entry.get("manager") == MANAGER and entry.get("operation") == "Apply" for entry in _entries(found))


def applied_fields(found: Object) -> Object:
    """Return the fields that rayproxy applied and owns, as managedFields have them."""
    for entry in _entries(found):
        if entry.get("manager") == MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource"):
            return dict(entry.get("fieldsV1") or {})
    return {}


def applied_at(found: Object) -> str:
    """Return when rayproxy last changed this object, RFC 3339 in UTC without the Z; "" where it did not."""
    times = [entry["time"] for entry in _entries(found) if entry.get("manager") == MANAGER and "time" in entry]
    return max(times, default="")[:19]


def managers(found: Object) -> str:
    """Name those who manage fields of an object, status apart."""
    names = {entry.get("manager", "") for entry in _entries(found) if "f:spec" in entry.get("fieldsV1", {})}
    return ", ".join(sorted(filter(None, names))) or "somebody else"


def owned_by(found: Object, owner: Object | None) -> bool:
    """Tell whether `owner` is an owner of `found`, by its uid."""
    uid = owner and owner["metadata"]["uid"]
    return any(each["uid"] == uid for each in found["metadata"].get("ownerReferences") or ())


def _entries(found: Object) -> list[Object]:
    entries: list[Object] = found.get("metadata", {}).get("managedFields") or []
    return entries
