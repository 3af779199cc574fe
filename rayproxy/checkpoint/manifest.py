"""The RayService of a checkpoint. Pure: (checkpoint, options, capabilities) -> manifest."""

from __future__ import annotations

import re
from typing import Any

from rayproxy.checkpoint import fields, head_state, pod_security
from rayproxy.checkpoint.capabilities import Capabilities
from rayproxy.checkpoint.checkpoint import ANNOTATION, MODELS, Checkpoint
from rayproxy.checkpoint.options import Options
from rayproxy.checkpoint.refusal import RefusedError
from rayproxy.checkpoint.serve_config import serve_config_v1, serve_config_v2
from rayproxy.kinds.base import path
from rayproxy.kinds.rayservice import INCREMENTAL, NAME
from rayproxy.model import Ref

Manifest = dict[str, Any]

LABELS = {"app": "prediction", "createdByFrontend": "true"}
RAY_VERSION = "2.60.0"
RAY_VERSION_OF_SERVE_CONFIG = "2.7.1"
# KubeRay 1.1 and newer use an interface of the dashboard that came with this Ray.
_DASHBOARD_HAS_SERVE = (2, 8, 0)
_RAY_HAS_TOKENS = (2, 52, 0)
# The first that asks for a uvicorn with which root_path is right. The images of older ones hold uvicorn 0.22, and
# with a root_path their workers are never ready: ray-project/kuberay#4494.
_RAY_HAS_ROOT_PATH = (2, 60, 0)
# DataTunerX writes Ray's version into the image's name without the dots: ray271, ray2600.
_RAY_IN_NAME = re.compile(r"(?:^|/)ray(\d)(\d{1,3})(\d)-")
# KubeRay before 1.4 calls the RayCluster NAME-raycluster-XXXXX, and puts that uncut into a label, which holds 63.
_MAX_OLD_NAME = 63 - len("-raycluster-XXXXX")
# The old cluster is deleted this long after the last stream may end: the proxy has to see the switch first.
_DELETION_MARGIN = 100


def build(checkpoint: Checkpoint, options: Options, capabilities: Capabilities) -> Manifest:
    """Return the RayService that serves `checkpoint`; raise RefusedError where this KubeRay cannot run it."""
    if len(checkpoint.name) > _MAX_OLD_NAME and not capabilities.long_names:
        raise RefusedError(
            f"{checkpoint.name}: the name has {len(checkpoint.name)} characters, and KubeRay before 1.4 can make pods "
            f"for {_MAX_OLD_NAME}: give a shorter one with --name"
        )
    metadata: dict[str, Any] = {"name": checkpoint.name, "labels": dict(LABELS)}
    if checkpoint.namespace:
        metadata["namespace"] = checkpoint.namespace
    named = {ANNOTATION: checkpoint.llm_checkpoint} if checkpoint.llm_checkpoint else {}
    if annotations := named | head_state.noted(options, capabilities):
        metadata["annotations"] = annotations
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": metadata,
        "spec": {
            **_upgrade(options, capabilities),
            "serveService": _serve_service(checkpoint, options),
            **_serve_config(checkpoint, options, capabilities),
            "rayClusterConfig": _cluster(checkpoint, options, capabilities),
        },
    }


def service_name(name: str) -> str:
    """Return the name of the Service of the RayService `name`."""
    return f"{name}-service"


def _upgrade(options: Options, capabilities: Capabilities) -> dict[str, Any]:
    """Return what keeps running streams alive while a new cluster takes over."""
    upgrade: dict[str, Any] = {}
    if options.incremental:
        upgrade["upgradeStrategy"] = _in_steps(options, capabilities)
    elif capabilities.upgrade_strategy:
        upgrade["upgradeStrategy"] = {"type": "NewCluster"}
    if capabilities.deletion_delay:
        upgrade["rayClusterDeletionDelaySeconds"] = options.read_timeout + _DELETION_MARGIN
    if capabilities.exclude_head:
        upgrade["excludeHeadPodFromServeSvc"] = True
    return upgrade


def _in_steps(options: Options, capabilities: Capabilities) -> dict[str, Any]:
    if not capabilities.incremental or not options.incremental:
        raise RefusedError(
            "--incremental: the RayService of this KubeRay has no clusterUpgradeOptions: leave it out, or use "
            "KubeRay 1.7, or 1.5 with the feature gate RayServiceIncrementalUpgrade"
        )
    percent, seconds = fields.steps(options.incremental)
    steps = {"gatewayClassName": options.gateway_class, "stepSizePercent": percent, "intervalSeconds": seconds}
    return {"type": INCREMENTAL, "clusterUpgradeOptions": steps}


def _serve_service(checkpoint: Checkpoint, options: Options) -> dict[str, Any]:
    port = {"name": "serve", "port": options.port, "protocol": "TCP", "targetPort": options.port}
    return {
        "metadata": {"name": service_name(checkpoint.name), "labels": {"app": "inference"}},
        "spec": {"type": "ClusterIP", "ports": [port]},
    }


def _serve_config(checkpoint: Checkpoint, options: Options, capabilities: Capabilities) -> dict[str, Any]:
    root = root_path(checkpoint, options, capabilities)
    if capabilities.serve_config_v2:
        return {"serveConfigV2": serve_config_v2(options, root, _numbers(ray_version(options, capabilities)))}
    if root:
        raise RefusedError(
            "--root-path: KubeRay 1.0's serveConfig has no place for it; leave it out, or use KubeRay 1.1"
        )
    return {"serveConfig": serve_config_v1(options)}


def _cluster(checkpoint: Checkpoint, options: Options, capabilities: Capabilities) -> dict[str, Any]:
    version = ray_version(options, capabilities)
    cluster: dict[str, Any] = {"rayVersion": version}
    if capabilities.auth_options and _numbers(version) >= _RAY_HAS_TOKENS:
        # Whoever reaches Ray's dashboard without a token can run code on the cluster.
        cluster["authOptions"] = {"mode": "token"}
    # KubeRay takes capacity from one cluster to the other through Ray's autoscaler.
    if options.max_replicas is not None or options.incremental:
        cluster |= {"enableInTreeAutoscaling": True, **pod_security.of_autoscaler(options)}
    return cluster | {
        **head_state.cluster_options(options, capabilities),
        "headGroupSpec": _head(checkpoint, options, capabilities),
        "workerGroupSpecs": [_workers(checkpoint, options, capabilities)],
    }


def ray_version(options: Options, capabilities: Capabilities) -> str:
    """Return the version that the RayService names; refuse one that KubeRay cannot serve with."""
    if not capabilities.serve_config_v2:
        return options.ray_version or RAY_VERSION_OF_SERVE_CONFIG
    version = options.ray_version or RAY_VERSION
    if _numbers(version) < _DASHBOARD_HAS_SERVE:
        raise RefusedError(
            f"--ray-version {version}: KubeRay 1.1 and newer needs Ray 2.8.0 or newer in the image. "
            "Build the image on a newer Ray, or use KubeRay 1.0"
        )
    return version


def root_path(checkpoint: Checkpoint, options: Options, capabilities: Capabilities) -> str:
    """Return the path under which callers find the model, for Ray Serve to know; "" where it is not told."""
    if options.root_path is not None:
        return options.root_path
    versions = [ray_version(options, capabilities), written_version(checkpoint)]
    old = any(version and _numbers(version) < _RAY_HAS_ROOT_PATH for version in versions)
    routed = path(Ref(NAME, checkpoint.namespace or "", checkpoint.name))
    return "" if old or not capabilities.serve_config_v2 else routed


def written_version(checkpoint: Checkpoint) -> str:
    """Return the version of Ray that the image's name says, or ""."""
    written = _RAY_IN_NAME.search(checkpoint.image)
    return ".".join(written.groups()) if written else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _head(checkpoint: Checkpoint, options: Options, capabilities: Capabilities) -> dict[str, Any]:
    ports = {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "serve": options.port}
    env = head_state.head_environment(options, capabilities)
    # No CPUs either: a replica on the head would find no model there.
    parameters = {"dashboard-host": "0.0.0.0", "num-cpus": "0", "num-gpus": "0"}  # noqa: S104 - inside the Pod
    container = {
        **_container("ray-head", checkpoint, options),
        **({"env": env} if env else {}),
        "ports": [_port(name, number) for name, number in ports.items()],
        "resources": {
            "limits": {"cpu": options.head_cpu or "2", "memory": options.head_memory or "8Gi"},
            "requests": {"cpu": options.head_cpu or "1", "memory": options.head_memory or "4Gi"},
        },
    }
    return {
        "serviceType": "ClusterIP",
        "rayStartParams": parameters | head_state.head_parameters(options, capabilities),
        "template": {"spec": {**_pod(options), "containers": [container]}},
    }


def _workers(checkpoint: Checkpoint, options: Options, capabilities: Capabilities) -> dict[str, Any]:
    return {
        "groupName": "worker",
        "replicas": options.replicas,
        "minReplicas": options.replicas,
        "maxReplicas": options.max_replicas or options.replicas,
        "rayStartParams": {},
        "template": {"spec": _worker_pod(checkpoint, options, capabilities)},
    }


def _worker_pod(checkpoint: Checkpoint, options: Options, capabilities: Capabilities) -> dict[str, Any]:
    limits = {"cpu": options.cpu, "memory": options.memory}
    if options.gpus:
        limits["nvidia.com/gpu"] = str(options.gpus)
    volumes, mounts = _volumes(options)
    tolerations = [fields.toleration(text) for text in options.tolerations]
    container = {
        **_container("ray-worker", checkpoint, options),
        "env": [{"name": name, "value": value} for name, value in environment(checkpoint, options).items()],
        "ports": [_port("serve", options.port)],
        **_readiness(options, capabilities),
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", "ray stop"]}}},
        "resources": {"limits": limits, "requests": dict(limits)},
        **({"volumeMounts": mounts} if mounts else {}),
    }
    return {
        **_pod(options),
        **({"nodeSelector": dict(options.node_selector)} if options.node_selector else {}),
        **({"tolerations": tolerations} if tolerations else {}),
        **({"volumes": volumes} if volumes else {}),
        "containers": [container],
    }


def _readiness(options: Options, capabilities: Capabilities) -> dict[str, Any]:
    """Return the probe by which a worker is ready as soon as Ray Serve answers on it.

    KubeRay 1.1 and newer move the Service to a new cluster before its workers are ready, and probe each 5 s by a shell
    of their own; recorded with 1.7: callers were without a model for 1.3 s with this one, and for 2.5 s without.
    """
    if not capabilities.serve_config_v2:  # KubeRay 1.0 chooses by a label of its own, and was not seen with one
        return {}
    probe = {"httpGet": {"path": "/-/healthz", "port": options.port}}
    return {"readinessProbe": probe | {"periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 3}}


def environment(checkpoint: Checkpoint, options: Options) -> dict[str, str]:
    """Return the workers' environment: what the model server reads, then what the user adds."""
    own = {
        "BASE_MODEL_DIR": checkpoint.base_model_dir,
        "CHECKPOINT_DIR": checkpoint.checkpoint_dir,
        "SERVING_MODEL_NAME": options.model_name or _own_name(checkpoint, options),
        "SERVING_MAX_LENGTH": options.max_length,
        "SERVING_DTYPE": options.dtype,
        "SERVING_QUANTIZATION": options.quantization,
        "SERVING_GPU_MEMORY_UTILIZATION": options.gpu_memory_utilization,
        "SERVING_ENGINE": options.engine,
        "SERVING_TENSOR_PARALLEL_SIZE": options.gpus if options.gpus > 1 else None,
        "SERVING_TRUST_REMOTE_CODE": "true" if options.trust_remote_code else None,
    }
    taken = {name: str(value) for name, value in own.items() if value is not None}
    twice = sorted(taken.keys() & options.env.keys())
    if twice:
        raise RefusedError(f"--env {', '.join(twice)}: set already, by the checkpoint or by an option of its own")
    return taken | options.env


def _own_name(checkpoint: Checkpoint, options: Options) -> str | None:
    """Return the RayService's name: the folder's, which the model server would take, is `base` for all of them."""
    return None if "SERVING_MODEL_NAME" in options.env else checkpoint.name


def _volumes(options: Options) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    if options.storage:
        claim, path = fields.volume(options.storage)
        volumes.append({"name": "models", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}})
        where = {"subPath": path} if path else {}
        mounts.append({"name": "models", "mountPath": MODELS, **where, "readOnly": True})
    # Tensor parallel ranks talk through shared memory, and a container's default is 64Mi.
    size = options.shm_size or ("10Gi" if options.gpus > 1 else None)
    if size:
        volumes.append({"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": size}})
        mounts.append({"name": "dshm", "mountPath": "/dev/shm"})  # noqa: S108 - a mount point
    return volumes, mounts


def _container(name: str, checkpoint: Checkpoint, options: Options) -> dict[str, Any]:
    image = {"image": checkpoint.image, "imagePullPolicy": checkpoint.image_pull_policy}
    return {"name": name, **image, **pod_security.of_container(options)}


def _port(name: str, number: int) -> dict[str, Any]:
    return {"name": name, "containerPort": number, "protocol": "TCP"}


def _pod(options: Options) -> dict[str, Any]:
    names = options.image_pull_secrets
    secrets = {"imagePullSecrets": [{"name": name} for name in names]} if names else {}
    return secrets | pod_security.of_pod(options)
