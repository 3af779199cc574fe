"""What a namespace asks for whose Pod Security is `restricted`: nothing of it is missed by Ray's own images. Pure."""

from __future__ import annotations

from typing import Any

from rayproxy.checkpoint.options import Options


def of_pod(options: Options) -> dict[str, Any]:
    """Return the part of a Pod's spec that holds for all of its containers."""
    return {} if options.allow_root else _context(runAsNonRoot=True, seccompProfile={"type": "RuntimeDefault"})


def of_container(options: Options) -> dict[str, Any]:
    """Return the part of a container, which each has to say for itself; KubeRay hands it on to its init container."""
    return {} if options.allow_root else _context(allowPrivilegeEscalation=False, capabilities={"drop": ["ALL"]})


def of_autoscaler(options: Options) -> dict[str, Any]:
    """Return the part of rayClusterConfig about the container that KubeRay puts beside the head's."""
    return {} if options.allow_root else {"autoscalerOptions": of_container(options)}


def _context(**fields: object) -> dict[str, Any]:
    return {"securityContext": fields}
