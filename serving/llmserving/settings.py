"""Every setting, once: an environment variable, an argument, a default, a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict

from llmserving import container
from llmserving.helptext import HelpFormatter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EngineName = Literal["auto", "continuous", "generate", "vllm", "echo"]

# What other servers call the same thing; their arguments are taken under these names too.
SYNONYMS = {"model": "model_dir", "served_model_name": "model_name", "max_model_len": "max_length"}


def _unprefixed(default: object, name: str, *others: str, **options: Any) -> Any:  # noqa: ANN401 - as Field itself
    """Declare a setting that is read from the variable NAME too, not from SERVING_NAME alone."""
    return Field(default, validation_alias=AliasChoices(name, f"serving_{name}", *others), **options)


class Settings(BaseSettings):
    """Hold the settings of one server, validated.

    Each is read from the argument `--name` (dashes or underscores), else from the variable SERVING_NAME.
    Those that name the model are read without the prefix too: BASE_MODEL_DIR, CHECKPOINT_DIR, MODEL_NAME...
    """

    model_config = SettingsConfigDict(
        env_prefix="SERVING_",
        env_ignore_empty=True,
        extra="forbid",
        populate_by_name=True,
        protected_namespaces=(),
        cli_implicit_flags=True,
        hide_input_in_errors=True,
        cli_prog_name="llmserving",
    )

    # The model.
    model_dir: Path | None = _unprefixed(None, "model_dir", "base_model_dir", description="the model's folder")
    checkpoint_dir: Path | None = _unprefixed(
        None,
        "checkpoint_dir",
        description="a LoRA adapter of it, or a full fine-tuned model; none: the model as it is",
    )
    model_name: str | None = _unprefixed(None, "model_name", description="the name clients use; none: the folder's")
    max_length: int | None = _unprefixed(
        None,
        "max_length",
        gt=0,
        description="longest prompt and answer together, in tokens; none: the model's own",
    )
    trust_remote_code: bool = _unprefixed(
        default=False, name="trust_remote_code", description="run Python code that lies in the model's folder"
    )
    allow_pickle: bool = Field(default=False, description="load weights that are not safetensors")
    allow_missing: bool = Field(
        default=False, description="serve weights that are not whole, with random numbers in place of what is missing"
    )
    chat_template: Path | None = Field(None, description="a Jinja file instead of the tokenizer's chat template")
    embedding_model_dir: Path | None = Field(None, description="an encoder for /v1/embeddings; none: the model")

    # What computes.
    engine: EngineName = Field("auto", description="auto: vllm where it is installed with a GPU, else continuous")
    device: str = Field("auto", description="auto: the GPU if there is one")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: the weights' own on a GPU, float32 on a CPU"
    )
    quantization: str | None = _unprefixed(None, "quantization", description="gptq, awq...: what the weights must be")
    gpu_memory_utilization: float = _unprefixed(
        0.9, "gpu_memory_utilization", gt=0, le=1, description="share of the GPU's memory to take"
    )
    tensor_parallel_size: int = _unprefixed(
        0,
        "tensor_parallel_size",
        ge=0,
        description="GPUs to split the model over (vllm); 0: all that are visible",
    )
    threads: int = Field(
        0, ge=0, description="CPU threads for the model; 0: all processors (by the container's quota) but one"
    )
    kv_cache_tokens: int = Field(
        0,
        ge=0,
        description="tokens kept for all running sequences (continuous); "
        "0: what memory holds, on a CPU 8 full ones at most",
    )

    # Limits.
    max_running: int = Field(64, gt=0, description="sequences that are computed together")
    max_waiting: int = Field(256, ge=0, description="sequences that wait; one more is answered 429")
    request_timeout: float = Field(1800.0, gt=0, description="seconds a request may take in all")
    ping_interval: float = Field(15.0, gt=0, description="seconds of silence after which a stream gets a comment")

    # HTTP.
    secret_key: SecretStr | None = Field(None, description="what `secretKey` must be in /embeddings/QuestionAnswer")
    host: str = Field("0.0.0.0", description="without Ray: the address to listen on")  # noqa: S104 - a container's
    port: int = Field(8080, ge=0, le=65535, description="without Ray: the port to listen on")
    log_level: Literal["debug", "info", "warning"] = Field(
        "info", description="debug: what is ignored of each request too, by name"
    )

    @model_validator(mode="after")
    def _needs_a_model(self) -> Settings:
        if self.model_dir is None and self.engine != "echo":
            raise ValueError("no model: set BASE_MODEL_DIR, or give --model_dir, a folder with a config.json")
        return self

    @property
    def served_name(self) -> str:
        """Return the name that clients give as `model`."""
        if self.model_name:
            return self.model_name
        return self.model_dir.resolve().name if self.model_dir else "echo"

    @property
    def model_threads(self) -> int:
        """Return how many threads compute; one processor is left to the HTTP side."""
        return self.threads or max(1, container.processors() - 1)


def from_arguments(arguments: Sequence[str]) -> Settings:
    """Read the settings from arguments, then from the environment; an unknown argument ends the process."""
    words = [word for argument in arguments for word in _words(argument)]
    source = CliSettingsSource[Any](Settings, cli_parse_args=words, formatter_class=HelpFormatter)
    return Settings(_cli_settings_source=source)


def from_mapping(values: Mapping[str, object]) -> Settings:
    """Read the settings from values by name (`args` of a Serve application), then from the environment."""
    return Settings(**{_canonical(name): value for name, value in values.items()})  # type: ignore[arg-type]


def _words(argument: str) -> list[str]:
    """Split what a manifest wrote as one word: `--quantization gptq`, `--max-model-len=8`."""
    if not argument.startswith("--"):
        return [argument]
    name, separator, value = argument[2:].replace(" ", "=", 1).partition("=")
    return [f"--{_canonical(name)}", *([value.strip()] if separator else [])]


def _canonical(name: str) -> str:
    name = name.replace("-", "_")
    return SYNONYMS.get(name, name)
