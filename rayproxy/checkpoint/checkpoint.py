"""An LLMCheckpoint, in either of its two shapes, and what of it is served. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rayproxy.checkpoint import fields
from rayproxy.checkpoint.options import Options, checked
from rayproxy.checkpoint.refusal import RefusedError
from rayproxy.objects import dig

API_GROUP = "core.datatunerx.io"
ANNOTATION = f"{API_GROUP}/llmCheckpoint"
MODELS = "/mnt/models"

SHAPES = (
    "An LLMCheckpoint names its image in one of two shapes: "
    "spec.checkpointImage.{name,llmPath,checkPointPath}, "
    "or, where there is no spec.checkpointImage, spec.image.{name,path} and spec.checkpoint"
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Hold what is served: an image, and where the model and its fine-tuned weights lie in it."""

    name: str  # of the RayService
    namespace: str | None
    llm_checkpoint: str | None  # the LLMCheckpoint's name; None where the flags alone say what is served
    image: str
    image_pull_policy: str
    base_model_dir: str
    checkpoint_dir: str | None  # None: the base model as it is


@dataclass(frozen=True, slots=True)
class _Shape:
    """Say in which field of spec each thing stands."""

    block: str
    image: str
    base_model_dir: str


_PUBLISHED = _Shape("checkpointImage", "name", "llmPath")
_DOCUMENTED = _Shape("image", "name", "path")


def from_options(options: Options) -> Checkpoint:
    """Return what the options alone describe: an image and a model, without an LLMCheckpoint."""
    base_model_dir = options.base_model_dir or (MODELS if options.storage else None)
    needed = {
        "--name": options.name,
        "--image": options.image,
        "--base-model-dir (or --storage)": base_model_dir,
    }
    missing = [flag for flag, value in needed.items() if not value]
    if missing or not (options.name and options.image and base_model_dir):
        raise RefusedError(f"nothing to serve: name an LLMCheckpoint, or give {', '.join(missing)} as well")
    return Checkpoint(
        name=options.name,
        namespace=None,
        llm_checkpoint=None,
        image=options.image,
        image_pull_policy=options.image_pull_policy or "IfNotPresent",
        base_model_dir=base_model_dir,
        checkpoint_dir=options.checkpoint_dir,
    )


def parse(document: object, options: Options) -> Checkpoint:
    """Read an LLMCheckpoint; what the options name themselves is not read from it.

    Raises RefusedError with the field at fault and both shapes.
    """
    metadata, spec = _outline(document)
    llm_checkpoint = _text(metadata, "name", "metadata.name")
    # checkpointImage wins where it is there: the published shape keeps spec.image, the image it was tuned in.
    shape = _PUBLISHED if spec.get(_PUBLISHED.block) is not None else _DOCUMENTED
    block = spec.get(shape.block) or {}
    if not isinstance(block, dict):
        raise _at_fault(f"spec.{shape.block} is a {type(block).__name__}, not a mapping")
    found = {
        "name": options.name or llm_checkpoint,
        "image": options.image or _text(block, shape.image, f"spec.{shape.block}.{shape.image}"),
        "base_model_dir": options.base_model_dir
        or _text(block, shape.base_model_dir, f"spec.{shape.block}.{shape.base_model_dir}"),
        "checkpoint_dir": options.checkpoint_dir or _checkpoint_dir(spec, shape, block, options.bucket),
        "image_pull_policy": options.image_pull_policy or block.get("imagePullPolicy") or "IfNotPresent",
    }
    # What an LLMCheckpoint says passes the same checks as what a flag says.
    checked(found, f"LLMCheckpoint {llm_checkpoint}")
    return Checkpoint(namespace=namespace_of(document), llm_checkpoint=llm_checkpoint, **found)


def namespace_of(document: object) -> str | None:
    """Return the namespace that an LLMCheckpoint names, if it names one; raise RefusedError."""
    named = dig(document, "metadata", "namespace")
    if named is None or named == "":
        return None
    if not isinstance(named, str):
        raise RefusedError(f"LLMCheckpoint: metadata.namespace is a {type(named).__name__}, not a text")
    try:
        return fields.namespace(named)
    except ValueError as error:
        raise RefusedError(f"LLMCheckpoint: metadata.namespace {error}") from error


def require_finished(document: object) -> None:
    """Refuse an LLMCheckpoint that has a status and whose tuning has not succeeded."""
    if not isinstance(document, dict) or "status" not in document:
        return
    status = document["status"]
    state = status.get("state") if isinstance(status, dict) else None
    if state != "SUCCESSFUL":
        raise RefusedError(
            f"LLMCheckpoint {document['metadata']['name']}: status.state is {state or 'missing'}, "
            "not SUCCESSFUL: its image may not be built yet. "
            "Wait until it is, or serve it all the same with --any-state"
        )


def _outline(document: object) -> tuple[dict[str, Any], dict[str, Any]]:
    if not isinstance(document, dict):
        raise RefusedError(f"a {type(document).__name__} is not an LLMCheckpoint: a mapping with kind and spec is")
    group = str(document.get("apiVersion", "")).partition("/")[0]
    if (group, document.get("kind")) != (API_GROUP, "LLMCheckpoint"):
        raise RefusedError(
            f"{document.get('apiVersion')} {document.get('kind')} is not an LLMCheckpoint of {API_GROUP}: "
            "check apiVersion and kind"
        )
    metadata, spec = document.get("metadata"), document.get("spec")
    if not isinstance(metadata, dict):
        raise RefusedError("LLMCheckpoint: metadata is missing: it holds the name")
    if not isinstance(spec, dict):
        raise _at_fault("spec is missing or not a mapping")
    return metadata, spec


def _checkpoint_dir(spec: dict[str, Any], shape: _Shape, block: dict[str, Any], bucket: str) -> str:
    if shape is _PUBLISHED:
        return _text(block, "checkPointPath", "spec.checkpointImage.checkPointPath")
    path = _text(spec, "checkpoint", "spec.checkpoint").strip("/")
    if bucket and not path.startswith(f"{bucket}/"):
        raise RefusedError(
            f"spec.checkpoint {path!r} does not begin with the bucket {bucket!r}: "
            "give its bucket with --bucket ('' where there is none), or the directory with --checkpoint-dir"
        )
    # Where the image's build puts the files: under /checkpoint, by their path in the bucket.
    return "/checkpoint/" + (path[len(bucket) + 1 :] if bucket else path)


def _text(mapping: dict[str, Any], key: str, path: str) -> str:
    value = mapping.get(key)
    if value is None or value == "":
        raise _at_fault(f"{path} is missing")
    if not isinstance(value, str):
        raise _at_fault(f"{path} is a {type(value).__name__}, not a text")
    return value


def _at_fault(what: str) -> RefusedError:
    return RefusedError(f"LLMCheckpoint: {what}. {SHAPES}")
