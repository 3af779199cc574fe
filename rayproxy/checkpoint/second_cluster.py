"""Whether KubeRay starts a second cluster for a change, and what that takes. Pure.

KubeRay compares a hash of spec.rayClusterConfig, but for how many replicas its workers have (1.0 leaves out `replicas`
alone), which the cluster that runs is not told. Whatever else of a RayService changes, serveConfigV2 say, is changed
where it runs.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from rayproxy.checkpoint.changes import Change, changes
from rayproxy.checkpoint.fields import amount
from rayproxy.objects import text

Object = dict[str, Any]

_GIB = 2**30
_WITHOUT_EFFECT = ".template.spec.tolerations"  # Kueue writes there: ray-project/kuberay#4569
_DEFAULT_DELAY = 60  # s after which KubeRay deletes the old cluster


def second_cluster(live: Object, after: Object) -> str:
    """Return what to say where `live` becoming `after` starts a second cluster, or should, and "" elsewhere."""
    hashed = [_hashed(each, old="serveConfig" in after["spec"]) for each in (live, after)]
    different = changes(*hashed)
    active = text(live, "status", "activeServiceStatus", "rayClusterName")
    if not active:
        return ""
    if not different:
        return _not_scaled(live, after, active)
    if all(_WITHOUT_EFFECT in change.path for change in different):
        return (
            "since 1.5.2 and 1.6.1 KubeRay does nothing for a change of tolerations alone, which holds from the next "
            "cluster on; older ones start a second cluster for it"
        )
    delay = after["spec"].get("rayClusterDeletionDelaySeconds", _DEFAULT_DELAY)
    return (
        f"KubeRay starts a second cluster for this change ({_named(different)}). It asks for "
        f"{cost(after['spec']['rayClusterConfig'])}, beside what runs now: the old cluster goes {delay} s after the "
        "new one has taken over"
    )


def _not_scaled(live: Object, after: Object, active: str) -> str:
    """Return what to say where nothing but the number of workers changes, which only the next cluster is told."""
    wanted = _scale(after)
    if wanted == _scale(live):
        return ""
    patch = [
        {"op": "replace", "path": f"/spec/workerGroupSpecs/{path}", "value": each} for path, each in wanted.items()
    ]
    return (
        "KubeRay hands a number of workers on to its next cluster alone. For the one that runs: kubectl -n "
        f"{text(after, 'metadata', 'namespace')} patch raycluster {active} --type=json -p '{json.dumps(patch)}'"
    )


def _scale(rayservice: Object) -> dict[str, int]:
    """Return how many workers there shall be, by a path in the list of groups; Ray's autoscaler sets `replicas`."""
    cluster = rayservice["spec"]["rayClusterConfig"]
    fields = ("maxReplicas", "minReplicas", *(() if cluster.get("enableInTreeAutoscaling") else ("replicas",)))
    groups = enumerate(cluster.get("workerGroupSpecs") or ())
    return {f"{number}/{field}": group[field] for number, group in groups for field in fields if field in group}


def cost(cluster: Object) -> str:
    """Return what the Pods of a rayClusterConfig ask for at first, in words."""
    sums: dict[str, Fraction] = defaultdict(Fraction)
    for count, template in _pods(cluster):
        for name, quantity in _asked(template):
            sums[name] += count * (amount(str(quantity)) or 0)
    gpus = [f"{_number(sums[name])} {name}" for name in sorted(sums) if name.endswith("/gpu") and sums[name]]
    room = [f"{_number(sums['cpu'])} CPUs", f"{_number(sums['memory'] / _GIB)}Gi of memory"]
    return ", ".join([*gpus, room[0]]) + f" and {room[1]}"


def _hashed(rayservice: Object, *, old: bool) -> Object:
    cluster = rayservice["spec"].get("rayClusterConfig") or {}
    scale = ("replicas",) if old else ("replicas", "minReplicas", "maxReplicas")
    groups = [
        {key: value for key, value in group.items() if key not in scale} | {"scaleStrategy": None}
        for group in cluster.get("workerGroupSpecs") or ()
    ]
    return {"spec": {"rayClusterConfig": cluster | {"workerGroupSpecs": groups, "upgradeStrategy": None}}}


def _named(different: list[Change]) -> str:
    others = f" and {len(different) - 1} more" if len(different) > 1 else ""
    return different[0].path + others


def _pods(cluster: Object) -> Iterator[tuple[int, Object]]:
    yield 1, cluster["headGroupSpec"]["template"]
    for group in cluster.get("workerGroupSpecs") or ():
        yield group.get("replicas", group.get("minReplicas", 0)) * group.get("numOfHosts", 1), group["template"]


def _asked(template: Object) -> Iterator[tuple[str, object]]:
    for container in template["spec"]["containers"]:
        resources = container.get("resources") or {}
        yield from ((resources.get("limits") or {}) | (resources.get("requests") or {})).items()


def _number(value: Fraction) -> str:
    return f"{float(value):.4g}"
