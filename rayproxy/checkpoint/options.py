"""Everything a person can say about how a checkpoint is served: flags, values file and help at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rayproxy.checkpoint import fields
from rayproxy.checkpoint.refusal import RefusedError
from rayproxy.checkpoint.text import filled
from rayproxy.kinds import ports
from rayproxy.validation_errors import reasons

PullPolicy = Literal["Always", "IfNotPresent", "Never"]
DataType = Literal["auto", "float32", "bfloat16", "float16"]
Engine = Literal["auto", "continuous", "generate", "vllm"]
Gpus = Annotated[int, Field(ge=0, le=64)]
Replicas = Annotated[int, Field(ge=1, le=1000)]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[int, Field(ge=1, le=86400)]

# KubeRay starts Ray with its metrics on 8080 in each pod, and gives the head's Service that port as well.
_TAKEN_PORTS = ports.RAYS_OWN | {8080: "Ray's metrics (KubeRay's metrics-export-port)"}


class Flags(BaseModel):
    """Hold the options, each checked by itself. A default of None means: as the checkpoint or the cluster says."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True)

    # what is served
    name: fields.ServiceName | None = None
    """name of the RayService; default: the checkpoint's"""
    image: fields.ImageReference | None = None
    """image, in place of the checkpoint's"""
    image_pull_policy: PullPolicy | None = None
    """in place of the checkpoint's"""
    image_pull_secrets: fields.Names = ()
    """Secrets that hold the registry's login"""
    base_model_dir: fields.AbsolutePath | None = None
    """BASE_MODEL_DIR, in place of the checkpoint's; without one: /mnt/models"""
    checkpoint_dir: fields.AbsolutePath | None = None
    """CHECKPOINT_DIR, in place of the checkpoint's"""
    bucket: fields.Bucket = "datatunerx"
    """bucket, cut off the front of a documented spec.checkpoint; '' cuts nothing"""
    storage: fields.StorageUri | None = None
    """pvc://NAME/PATH, mounted at /mnt/models in the workers, read-only"""

    # how much of it, and where
    gpus: Gpus = 1
    """GPUs of each replica, tensor parallel over them"""
    replicas: Replicas = 1
    """replicas, each on a worker of its own"""
    max_replicas: Replicas | None = None
    """scale between --replicas and this"""
    target_ongoing_requests: Positive = 2
    """requests in flight on each replica that autoscaling aims at"""
    cpu: fields.Quantity = "8"
    """CPU of a worker, request and limit"""
    memory: fields.Quantity = "48Gi"
    """memory of a worker, request and limit"""
    head_cpu: fields.Quantity | None = None
    """CPU of the head, request and limit; default: 1 requested, 2 at most"""
    head_memory: fields.Quantity | None = None
    """memory of the head, request and limit; default: 4Gi requested, 8Gi at most"""
    shm_size: fields.Quantity | None = None
    """size of /dev/shm; default: 10Gi with more than one GPU, else KubeRay's"""
    node_selector: fields.NodeSelector = {}
    """labels of the workers' nodes, KEY=VALUE"""
    tolerations: fields.Tolerations = ()
    """taints that the workers bear, KEY[=VALUE][:EFFECT]"""
    env: fields.Env = {}
    """more environment of the workers, NAME=VALUE"""
    allow_root: bool = False
    """for an image whose user is root, which Pod Security's `restricted` refuses: leaves securityContext out"""

    # the model server
    model_name: fields.ModelName | None = None
    """the model's name in the OpenAI interface; default: the RayService's"""
    max_length: Positive | None = None
    """longest context, in tokens"""
    dtype: DataType | None = None
    """type of the weights"""
    quantization: fields.Word | None = None
    """of the weights, such as gptq"""
    gpu_memory_utilization: Share | None = None
    """share of each GPU's memory that the engine takes"""
    engine: Engine | None = None
    """what generates; default: the model server's choice"""
    trust_remote_code: bool = False
    """run Python code that comes with the model"""

    # Ray
    ray_version: fields.RayVersion | None = None
    """Ray in the image; default: 2.60.0, with KubeRay 1.0 2.7.1"""
    import_path: fields.ImportPath = "inference.deployment"
    """the application in the working directory"""
    working_dir: fields.WorkingDir = "file:///home/inference/inference.zip"
    """the code, in the image of head and workers"""
    deployment: fields.Word = "LlamaDeployment"
    """name of the Ray Serve deployment"""
    port: Port = 8000
    """port of Ray Serve and of its Service"""
    root_path: fields.RootPath | None = None
    """where callers find the model; default: /apis/rayservice/NAME with Ray 2.60 and newer; '' says nothing to Ray"""
    read_timeout: Seconds = 2000
    """the proxy's read timeout in seconds: after an upgrade, streams may run on that long"""

    # what goes on when something changes or fails
    incremental: fields.Increments | None = None
    """PERCENT%:SECONDS, such as 20%:30: an upgrade moves the traffic in such steps; needs --gateway-class"""
    gateway_class: fields.ObjectName | None = None
    """Gateway class by which KubeRay is told that traffic may move: the proxy's, or another controller's"""
    redis: fields.HostPort | None = None
    """HOST:PORT of a Redis that keeps the head's state, so that the model outlives its head"""
    redis_secret: fields.SecretReference | None = None
    """NAME[:KEY], the Secret with its password; key: password"""


class Options(Flags):
    """Hold all of the options, those of flags and of the values file, checked together."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Options:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"--max-replicas {self.max_replicas} is less than --replicas {self.replicas}")
        if self.incremental and not self.gateway_class:
            raise ValueError(
                f"--incremental {self.incremental} needs --gateway-class, one that this cluster has a controller for, "
                "or that the proxy speaks for (RAYPROXY_GATEWAY_CLASS): "
                "KubeRay moves no traffic before that one has accepted its Gateway and HTTPRoute"
            )
        if self.gateway_class and not self.incremental:
            raise ValueError(f"--gateway-class {self.gateway_class} says nothing without --incremental")
        if self.redis_secret and not self.redis:
            raise ValueError(f"--redis-secret {self.redis_secret} without --redis: give its HOST:PORT as well")
        if self.port in _TAKEN_PORTS:
            raise ValueError(
                f"--port {self.port} is taken in each RayCluster, by {_TAKEN_PORTS[self.port]}: "
                "give another one, such as 8000"
            )
        return self


def from_values(text: str, source: str, given: Mapping[str, Any] | None = None) -> Options:
    """Return the options of a values file, YAML with keys called as the flags; what is `given` wins."""
    documents = filled(text, source)
    if len(documents) > 1:
        raise RefusedError(f"{source} holds {len(documents)} documents: give a file with one")
    values = documents[0] if documents else {}
    if not isinstance(values, dict):
        raise RefusedError(f"{source} holds a {type(values).__name__}: write one 'option: value' a line")
    named = {str(key).replace("-", "_"): value for key, value in values.items()}
    # What stands there without a value is not given; what is no option at all is told in any case.
    said = {key: value for key, value in named.items() if value is not None or key not in Options.model_fields}
    return checked(said | dict(given or {}), source)


def checked(values: Mapping[str, Any], source: str = "options") -> Options:
    """Return the options, or refuse all that is wrong with them in one message."""
    try:
        return Options.model_validate(values)
    except ValidationError as error:
        raise RefusedError(f"{source}: {'; '.join(reasons(error))}") from error
