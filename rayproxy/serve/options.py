"""Everything a person can say about how a checkpoint is served: flags, values file and help at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rayproxy.serve import fields
from rayproxy.serve.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PullPolicy = Literal["Always", "IfNotPresent", "Never"]
DataType = Literal["auto", "float32", "bfloat16", "float16"]
Engine = Literal["auto", "continuous", "generate", "vllm"]
Gpus = Annotated[int, Field(ge=0, le=64)]
Replicas = Annotated[int, Field(ge=1, le=1000)]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[int, Field(ge=1, le=86400)]

_RAYS_OWN_PORTS = (6379, 8265, 10001)


class Options(BaseModel):
    """Hold the options, checked. A default of None means: as the checkpoint or the cluster says."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    # what is served
    name: fields.ServiceName | None = Field(None, description="name of the RayService; default: the checkpoint's")
    image: fields.ImageReference | None = Field(None, description="image, in place of the checkpoint's")
    image_pull_policy: PullPolicy | None = Field(None, description="in place of the checkpoint's")
    image_pull_secrets: fields.Names = Field((), description="Secrets that hold the registry's login")
    base_model_dir: fields.AbsolutePath | None = Field(
        None, description="BASE_MODEL_DIR, in place of the checkpoint's; without one: /mnt/models"
    )
    checkpoint_dir: fields.AbsolutePath | None = Field(
        None, description="CHECKPOINT_DIR, in place of the checkpoint's"
    )
    bucket: fields.Bucket = Field(
        "datatunerx", description="bucket, cut off the front of a documented spec.checkpoint; '' cuts nothing"
    )
    storage: fields.StorageUri | None = Field(
        None, description="pvc://NAME/PATH, mounted at /mnt/models in the workers, read-only"
    )

    # how much of it, and where
    gpus: Gpus = Field(1, description="GPUs of each replica, tensor parallel over them")
    replicas: Replicas = Field(1, description="replicas, each on a worker of its own")
    max_replicas: Replicas | None = Field(None, description="scale between --replicas and this")
    target_ongoing_requests: Positive = Field(
        2, description="requests in flight on each replica that autoscaling aims at"
    )
    cpu: fields.Quantity = Field("8000m", description="CPU of a worker, request and limit")
    memory: fields.Quantity = Field("48Gi", description="memory of a worker, request and limit")
    shm_size: fields.Quantity | None = Field(
        None, description="size of /dev/shm; default: 10Gi with more than one GPU, else KubeRay's"
    )
    node_selector: fields.NodeSelector = Field({}, description="labels of the workers' nodes, KEY=VALUE")
    tolerations: fields.Tolerations = Field((), description="taints that the workers bear, KEY[=VALUE][:EFFECT]")
    env: fields.Env = Field({}, description="more environment of the workers, NAME=VALUE")

    # the model server
    model_name: fields.ModelName | None = Field(None, description="the model's name in the OpenAI interface")
    max_length: Positive | None = Field(None, description="longest context, in tokens")
    dtype: DataType | None = Field(None, description="type of the weights")
    quantization: fields.Word | None = Field(None, description="of the weights, such as gptq")
    gpu_memory_utilization: Share | None = Field(None, description="share of each GPU's memory that the engine takes")
    engine: Engine | None = Field(None, description="what generates; default: the model server's choice")
    trust_remote_code: bool = Field(default=False, description="run Python code that comes with the model")

    # Ray
    ray_version: fields.RayVersion | None = Field(
        None, description="Ray in the image; default: 2.60.0, with KubeRay 1.0 2.7.1"
    )
    import_path: fields.ImportPath = Field(
        "inference.deployment", description="the application in the working directory"
    )
    working_dir: fields.WorkingDir = Field(
        "file:///home/inference/inference.zip", description="the code, in the image of head and workers"
    )
    deployment: fields.Word = Field("LlamaDeployment", description="name of the Ray Serve deployment")
    port: Port = Field(8000, description="port of Ray Serve and of its Service")
    read_timeout: Seconds = Field(
        2000,
        description="the proxy's read timeout in seconds: after an upgrade, streams may run on that long",
    )

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Options:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"--max-replicas {self.max_replicas} is less than --replicas {self.replicas}")
        if self.port in _RAYS_OWN_PORTS:
            raise ValueError(
                f"--port {self.port} is Ray's own: none of {', '.join(map(str, _RAYS_OWN_PORTS))} is free"
            )
        return self


def from_values(text: str, source: str, given: Mapping[str, Any] | None = None) -> Options:
    """Return the options of a values file, YAML with keys called as the flags; what is `given` wins."""
    try:
        values = yaml.safe_load(text) if text.strip() else {}
    except yaml.YAMLError as error:
        raise Refusal(f"{source} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise Refusal(f"{source} holds a {type(values).__name__}: write one 'option: value' a line")
    named = {str(key).replace("-", "_"): value for key, value in values.items()}
    return checked(named | dict(given or {}), source)


def checked(values: Mapping[str, Any], source: str = "options") -> Options:
    """Return the options, or refuse all that is wrong with them in one message."""
    try:
        return Options.model_validate(values)
    except ValidationError as error:
        raise Refusal(f"{source}: {explain(error)}") from error


def explain(error: ValidationError) -> str:
    """Say what is wrong with each option, by its flag."""
    return "; ".join(_reasons(error))


def _reasons(error: ValidationError) -> Iterator[str]:
    for detail in error.errors(include_url=False):
        flag = ".".join(str(part) for part in detail["loc"] if part != "[key]").replace("_", "-")
        reason = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":
            reason = "there is no such option"
        yield f"--{flag}: {reason}" if flag else reason
