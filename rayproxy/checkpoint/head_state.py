"""Where the head keeps its state: in Redis where that is asked for, in the words of each KubeRay. Pure.

KubeRay 1.3 and newer have gcsFaultToleranceOptions. Older ones take an annotation, and hand on the head's environment.
"""

from __future__ import annotations

from typing import Any

from rayproxy.checkpoint import fields
from rayproxy.checkpoint.capabilities import Capabilities
from rayproxy.checkpoint.options import Options


def noted(options: Options, capabilities: Capabilities) -> dict[str, str]:
    """Return the annotations of the RayService, which KubeRay hands on to its RayClusters."""
    return {"ray.io/ft-enabled": "true"} if _by_annotation(options, capabilities) else {}


def cluster_options(options: Options, capabilities: Capabilities) -> dict[str, Any]:
    """Return the part of rayClusterConfig."""
    if not options.redis or not capabilities.gcs_options:
        return {}
    password = {"redisPassword": {"valueFrom": _secret(options.redis_secret)}} if options.redis_secret else {}
    return {"gcsFaultToleranceOptions": {"redisAddress": options.redis, **password}}


def head_environment(options: Options, capabilities: Capabilities) -> list[dict[str, Any]]:
    """Return the environment of the head's container."""
    if not _by_annotation(options, capabilities):
        return []
    address = {"name": "RAY_REDIS_ADDRESS", "value": options.redis}
    secret = options.redis_secret
    return [address, *([{"name": "REDIS_PASSWORD", "valueFrom": _secret(secret)}] if secret else [])]


def head_parameters(options: Options, capabilities: Capabilities) -> dict[str, str]:
    """Return the parameters of the head's `ray start`, in which a shell puts the password."""
    by_shell = _by_annotation(options, capabilities) and options.redis_secret
    return {"redis-password": "$REDIS_PASSWORD"} if by_shell else {}


def _by_annotation(options: Options, capabilities: Capabilities) -> bool:
    return options.redis is not None and not capabilities.gcs_options


def _secret(reference: str) -> dict[str, Any]:
    name, key = fields.secret_key(reference)
    return {"secretKeyRef": {"name": name, "key": key}}
