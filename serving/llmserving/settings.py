"""Every setting, once: an environment variable, an argument, a default, a reason."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence  # noqa: TC003 - pydantic reads the annotations
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict

EngineName = Literal["auto", "continuous", "generate", "vllm", "echo"]

# What other servers call the same thing; their arguments are taken under these names too.
SYNONYMS = {"model": "model_dir", "served_model_name": "model_name", "max_model_len": "max_length"}


class Settings(BaseSettings):
    """Hold the settings of one server, validated.

    Each is read from the argument `--name` (dashes or underscores), else from the variable SERVING_NAME.
    Those that name the model are read without the prefix too: BASE_MODEL_DIR, CHECKPOINT_DIR, MODEL_NAME...
    """

    model_config = SettingsConfigDict(
        env_prefix="SERVING_",
        extra="forbid",
        populate_by_name=True,
        protected_namespaces=(),
        cli_implicit_flags=True,
        hide_input_in_errors=True,
        cli_prog_name="llmserving",
    )

    model_dir: Annotated[
        Path | None, Field(validation_alias=AliasChoices("model_dir", "serving_model_dir", "base_model_dir"))
    ] = None
    checkpoint_dir: Annotated[
        Path | None, Field(validation_alias=AliasChoices("checkpoint_dir", "serving_checkpoint_dir"))
    ] = None
    model_name: Annotated[
        str | None, Field(validation_alias=AliasChoices("model_name", "serving_model_name"))
    ] = None
    max_length: Annotated[
        int | None, Field(gt=0, validation_alias=AliasChoices("max_length", "serving_max_length"))
    ] = None
    trust_remote_code: Annotated[
        bool, Field(validation_alias=AliasChoices("trust_remote_code", "serving_trust_remote_code"))
    ] = False
    gpu_memory_utilization: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            validation_alias=AliasChoices("gpu_memory_utilization", "serving_gpu_memory_utilization"),
        ),
    ] = 0.9
    quantization: Annotated[
        str | None, Field(validation_alias=AliasChoices("quantization", "serving_quantization"))
    ] = None
    tensor_parallel_size: Annotated[int, Field(ge=0)] = 0
    engine: EngineName = "auto"
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    allow_pickle: bool = False
    chat_template: Path | None = None
    embedding_model_dir: Path | None = None
    threads: Annotated[int, Field(ge=0)] = 0
    max_running: Annotated[int, Field(gt=0)] = 64
    max_waiting: Annotated[int, Field(ge=0)] = 256
    kv_cache_tokens: Annotated[int, Field(ge=0)] = 0
    request_timeout: Annotated[float, Field(gt=0)] = 1800.0
    ping_interval: Annotated[float, Field(gt=0)] = 15.0
    secret_key: SecretStr | None = None
    root_path: str = ""
    host: str = "0.0.0.0"  # noqa: S104 - a server in a container of its own
    port: Annotated[int, Field(ge=0, le=65535)] = 8080

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


def from_arguments(arguments: Sequence[str]) -> Settings:
    """Read the settings from arguments, then from the environment; exit with a message where they are wrong."""
    source = CliSettingsSource[type[Settings]](
        Settings, cli_parse_args=[word for argument in arguments for word in _words(argument)]
    )
    return Settings(_cli_settings_source=source)  # type: ignore[call-arg]


def from_mapping(values: Mapping[str, object]) -> Settings:
    """Read the settings from a mapping of their names (`args` of a Serve application), then from the environment."""
    return Settings(**{_canonical(name): value for name, value in values.items()})  # type: ignore[arg-type]


def usable_cpus() -> int:
    """Count the processors that this process may run on."""
    return len(os.sched_getaffinity(0))


def _words(argument: str) -> list[str]:
    """Split what a manifest wrote as one word: `--quantization gptq`, `--max-model-len=8`."""
    if not argument.startswith("--"):
        return [argument]
    name, separator, value = argument[2:].replace(" ", "=", 1).partition("=")
    return [f"--{_canonical(name)}", *([value.strip()] if separator else [])]


def _canonical(name: str) -> str:
    name = name.replace("-", "_")
    return SYNONYMS.get(name, name)
