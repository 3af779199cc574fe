"""Apply a RayService: over what KubeRay's operator wrote back as it was, and over nobody's wish."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from rayproxy.checkpoint.changes import Change, overwritten, shown
from rayproxy.checkpoint.cluster import Cluster
from rayproxy.checkpoint.last_applied import last_applied, with_record
from rayproxy.checkpoint.ownership import made_by_rayproxy, managers, owned_by
from rayproxy.checkpoint.refusal import RefusedError
from rayproxy.checkpoint.second_cluster import second_cluster
from rayproxy.kube.api import ApiError, Cause

Object = dict[str, Any]

# The operator's own Update of the whole object, not of its status: it wishes for nothing that it found there.
_OPERATORS = 'conflict with "kuberay-operator" using '
_TRIES = 5  # KubeRay writes the status each 2 s, and each write asks for another look


def apply(cluster: Cluster, manifest: Object, *, force: bool) -> Object:
    """Apply `manifest` as field manager `rayproxy`; refuse what others made, changed or own, unless forced."""
    name = manifest["metadata"]["name"]
    if force:
        _refuse_what_is_being_deleted(name, cluster.rayservice(name))
        return cluster.patch(with_record(manifest), force=True)
    for _ in range(_TRIES):
        live = cluster.rayservice(name)
        _refuse_what_is_being_deleted(name, live)
        _refuse_what_others_made(cluster, manifest, live)
        try:
            return _apply_to(cluster, with_record(manifest), live)
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            last = error
    raise RefusedError(f"RayService {name}: it changes faster than it can be looked at, try again: {last}")


def foresee(cluster: Cluster, manifest: Object) -> str:
    """Return what to say before `manifest` is applied, "" where there is nothing; raise ApiError."""
    live = cluster.rayservice(manifest["metadata"]["name"])
    return second_cluster(live, cluster.patch(with_record(manifest), force=True, dry_run=True)) if live else ""


def _refuse_what_is_being_deleted(name: str, live: Object | None) -> None:
    """Raise RefusedError where the API server would take it, and all would be gone once the finalizers are done."""
    if live is not None and live["metadata"].get("deletionTimestamp"):
        raise RefusedError(f"RayService {name} is being deleted: try again when it is gone")


def _refuse_what_others_made(cluster: Cluster, manifest: Object, live: Object | None) -> None:
    name, service_name = manifest["metadata"]["name"], manifest["spec"]["serveService"]["metadata"]["name"]
    if live is not None and not made_by_rayproxy(live):
        raise RefusedError(
            f"RayService {name} exists and was made by {managers(live)}, not by rayproxy: "
            "give another --name, or take it over with --force"
        )
    service = cluster.service(service_name)
    if service is not None and not owned_by(service, live):
        raise RefusedError(
            f"Service {service_name} exists and was made by {managers(service)}; "
            "KubeRay would overwrite it: give another --name, or let it with --force"
        )


def _apply_to(cluster: Cluster, wanted: Object, live: Object | None) -> Object:
    if live is None:
        return cluster.patch(wanted, force=False)
    try:
        return cluster.patch(_at(wanted, live), force=False)
    except ApiError as error:
        if error.status != HTTPStatus.CONFLICT or not error.causes:
            raise
        _refuse_wishes(cluster, wanted, live, error.causes)
    return cluster.patch(_at(wanted, live), force=True)


def _at(manifest: Object, live: Object) -> Object:
    """Return `manifest` for this very state of the object: a later one is the next look's business."""
    version = {"resourceVersion": live["metadata"]["resourceVersion"]}
    return manifest | {"metadata": manifest["metadata"] | version}


def _refuse_wishes(cluster: Cluster, wanted: Object, live: Object, causes: tuple[Cause, ...]) -> None:
    """Raise RefusedError unless all that is in the way is the operator's copy of what was applied last."""
    lost = _lost(cluster, wanted, live)
    foreign = [cause for cause in causes if lost is None or not _operators(cause)]
    if foreign or lost:
        raise RefusedError(
            f"RayService {live['metadata']['name']}: this would undo what others changed or own:\n  "
            + "\n  ".join([*_changed(lost or [], causes), *_owned(foreign, lost or [])])
            + "\nAsk for the same with options of this command, or take these fields over with --force"
        )


def _lost(cluster: Cluster, wanted: Object, live: Object) -> list[Change] | None:
    """Return what others changed and this would undo, None where what was applied last is not known."""
    applied = last_applied(live)
    if applied is None:
        return None
    try:
        # The server itself says what it makes of each, with its defaults, and over what others added.
        before, after = (cluster.patch(_at(each, live), force=True, dry_run=True) for each in (applied, wanted))
    except ApiError as error:
        if error.status == HTTPStatus.CONFLICT:
            raise
        return None  # the definition has lost a field since
    return overwritten(*({"spec": state["spec"]} for state in (before, live, after)))


def _operators(cause: Cause) -> bool:
    return cause.message.startswith(_OPERATORS) and cause.field.startswith(".spec.")


def _changed(lost: list[Change], causes: tuple[Cause, ...]) -> Iterator[str]:
    for change in lost:
        whose = next((f"{cause.message}: " for cause in causes if change.is_in(_path(cause))), "")
        yield f"{change.path}: {whose}it is {shown(change.after)}, and was applied as {shown(change.before)}"


def _owned(foreign: list[Cause], lost: list[Change]) -> Iterator[str]:
    for cause in foreign:
        if not any(change.is_in(_path(cause)) for change in lost):
            yield f"{_path(cause)}: {cause.message}"


def _path(cause: Cause) -> str:
    return cause.field.removeprefix(".")
