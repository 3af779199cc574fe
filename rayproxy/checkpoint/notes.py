"""What is worth saying although nothing is refused. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from rayproxy.checkpoint.capabilities import Capabilities
from rayproxy.checkpoint.checkpoint import Checkpoint
from rayproxy.checkpoint.manifest import ray_version, root_path, written_version
from rayproxy.checkpoint.options import Options


def notes(served: Checkpoint, options: Options, capabilities: Capabilities) -> Iterator[str]:
    """Yield what a person may have overlooked."""
    written, version = written_version(served), ray_version(options, capabilities)
    if written and written != version:
        yield (
            f"the image's name says Ray {written}, the RayService will say {version}: "
            "give --ray-version with what is in the image"
        )
    if not capabilities.deletion_delay:
        yield (
            "60 s after an upgrade this KubeRay deletes the old cluster and cuts its streams: "
            "KubeRay 1.5 and newer can wait for them"
        )
    if options.root_path is None and not root_path(served, options, capabilities):
        yield (
            "Ray Serve is not told its path at the proxy, so pages such as /docs look for their files elsewhere: "
            "Ray 2.60 with KubeRay 1.1, and newer, can be told"
        )
    if options.incremental and not capabilities.incremental_is_on:
        yield (
            "KubeRay 1.5 and 1.6 upgrade in steps only with the feature gate RayServiceIncrementalUpgrade: "
            "without it the new cluster takes over at once"
        )
