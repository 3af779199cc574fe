"""What is worth saying although nothing is refused. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rayproxy.serve.capabilities import Capabilities
from rayproxy.serve.checkpoint import Checkpoint
from rayproxy.serve.manifest import ray_version
from rayproxy.serve.options import Options

# DataTunerX writes Ray's version into the image's name without the dots: ray271, ray2600.
_RAY_IN_NAME = re.compile(r"(?:^|/)ray(\d)(\d{1,3})(\d)-")


def notes(served: Checkpoint, options: Options, capabilities: Capabilities) -> Iterator[str]:
    """Yield what a person may have overlooked."""
    written = _RAY_IN_NAME.search(served.image)
    version = ray_version(options, capabilities)
    if written and ".".join(written.groups()) != version:
        yield (
            f"the image's name says Ray {'.'.join(written.groups())}, the RayService will say {version}: "
            "give --ray-version with what is in the image"
        )
    if not capabilities.deletion_delay:
        yield (
            "60 s after an upgrade this KubeRay deletes the old cluster and cuts its streams: "
            "KubeRay 1.5 and newer can wait for them"
        )
