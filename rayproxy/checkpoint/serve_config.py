"""What KubeRay hands to Ray Serve: serveConfigV2, or serveConfig for KubeRay 1.0. Pure."""

from __future__ import annotations

from typing import Any

import yaml

from rayproxy.checkpoint.options import Options

APPLICATION = "default"
# Ray ignores a name that it does not know, and older ones have another: 2.9.3's and 2.10.0's ray/serve/config.py.
_RAY_HAS_TARGET = (2, 10, 0)
_TARGET, _OLD_TARGET = "target_ongoing_requests", "target_num_ongoing_requests_per_replica"


def serve_config_v2(options: Options, root_path: str, ray: tuple[int, ...]) -> str:
    """Return the YAML text of this Ray's ServeDeploySchema; without a `root_path` where that is ""."""
    # No request_timeout_s: it would cut a stream that is still sending.
    http_options = {"host": "0.0.0.0", "port": options.port}  # noqa: S104 - inside the Pod
    if root_path:
        http_options["root_path"] = root_path
    config = {
        "proxy_location": "EveryNode",
        "http_options": http_options,
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": options.import_path,
                "runtime_env": {"working_dir": options.working_dir},
                "deployments": [
                    {
                        "name": options.deployment,
                        **_scale_v2(options, ray),
                        "graceful_shutdown_timeout_s": options.read_timeout,
                        "ray_actor_options": {"num_gpus": options.gpus},
                    }
                ],
            }
        ],
    }
    return yaml.safe_dump(config, sort_keys=False)


def serve_config_v1(options: Options) -> dict[str, Any]:
    """Return KubeRay 1.0's serveConfig, as documented; Ray 2.7's names in the texts it holds."""
    return {
        "importPath": options.import_path,
        "runtimeEnv": f'working_dir: "{options.working_dir}"\n',
        "port": options.port,
        "deployments": [
            {
                "name": options.deployment,
                **_scale_v1(options),
                "gracefulShutdownTimeoutS": options.read_timeout,
                "rayActorOptions": {"numGpus": options.gpus},
            }
        ],
    }


def _scale_v2(options: Options, ray: tuple[int, ...]) -> dict[str, Any]:
    if options.max_replicas is None:
        return {"num_replicas": options.replicas}
    return {
        "autoscaling_config": {
            "min_replicas": options.replicas,
            "max_replicas": options.max_replicas,
            _TARGET if ray >= _RAY_HAS_TARGET else _OLD_TARGET: options.target_ongoing_requests,
        }
    }


def _scale_v1(options: Options) -> dict[str, Any]:
    if options.max_replicas is None:
        return {"numReplicas": options.replicas}
    scale = {
        "min_replicas": options.replicas,
        "max_replicas": options.max_replicas,
        _OLD_TARGET: options.target_ongoing_requests,
    }
    return {"autoscalingConfig": yaml.safe_dump(scale, sort_keys=False)}
