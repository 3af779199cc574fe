"""What the cluster's RayService definition can express. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rayproxy.checkpoint.refusal import RefusedError

# The first KubeRay release, as (major, minor, patch), that has the field.
_SINCE = {
    "upgrade_strategy": (1, 3, 0),
    "exclude_head": (1, 3, 0),
    "deletion_delay": (1, 5, 0),
    "auth_options": (1, 5, 1),
    "gcs_options": (1, 3, 0),
    "long_names": (1, 4, 0),
    "incremental": (1, 5, 0),
    "incremental_is_on": (1, 7, 0),  # without a feature gate
}


@dataclass(frozen=True)
class Capabilities:
    """Which of the fields that `rayproxy deploy` may write exist, and how long a RayService's name may be."""

    serve_config_v2: bool
    upgrade_strategy: bool
    exclude_head: bool
    deletion_delay: bool
    auth_options: bool
    gcs_options: bool
    long_names: bool
    incremental: bool
    incremental_is_on: bool


def of_release(release: str) -> Capabilities:
    """Return what KubeRay `release` ("1.0", "1.5.1") has; a missing patch level means the newest one."""
    match = re.fullmatch(r"v?(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?", release)
    if not match:
        raise RefusedError(f"--kuberay {release!r} is not a release of KubeRay: give one such as 1.0 or 1.7.0")
    version = (int(match[1]), int(match[2]), int(match[3] or 999))
    if version < (1, 0, 0):
        raise RefusedError(f"KubeRay {release} has no ray.io/v1 RayService: KubeRay 1.0 or newer is needed")
    has = {name: version >= since for name, since in _SINCE.items()}
    return Capabilities(serve_config_v2=version >= (1, 1, 0), **has)


def of_crd(crd: dict[str, Any]) -> Capabilities:
    """Return what the cluster's own RayService definition has."""
    spec = rayservice_schema(crd)["properties"]["spec"]["properties"]
    cluster = spec["rayClusterConfig"]["properties"]
    autoscaler = cluster.get("autoscalerOptions", {}).get("properties", {})
    return Capabilities(
        # KubeRay 1.0 has both, and hands serveConfig to an interface that only old Rays have;
        # every later release has serveConfigV2 alone.
        serve_config_v2="serveConfig" not in spec,
        upgrade_strategy="upgradeStrategy" in spec,
        exclude_head="excludeHeadPodFromServeSvc" in spec,
        deletion_delay="rayClusterDeletionDelaySeconds" in spec,
        auth_options="authOptions" in cluster,
        gcs_options="gcsFaultToleranceOptions" in cluster,
        long_names="version" in autoscaler,  # which came with the same release
        incremental="clusterUpgradeOptions" in spec.get("upgradeStrategy", {}).get("properties", {}),
        incremental_is_on="suspend" in spec,  # which came with the same release
    )


def rayservice_schema(crd: dict[str, Any]) -> dict[str, Any]:
    """Return the structural schema of ray.io/v1 in the definition of RayService."""
    for version in crd["spec"]["versions"]:
        if version["name"] == "v1" and version["served"]:
            schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
            return schema
    served = ", ".join(version["name"] for version in crd["spec"]["versions"])
    raise RefusedError(f"the cluster's RayService has {served} but no v1: KubeRay 1.0 or newer is needed")
