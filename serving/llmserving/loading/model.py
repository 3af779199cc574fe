"""The model that continues text, and the encoder that embeds, each on its device."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText

from llmserving.files import folders as on_disk
from llmserving.files.check import check, check_small_files, check_weights
from llmserving.files.folders import CONFIG, Folders
from llmserving.loading import adapters, weights
from llmserving.loading.report import known

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from llmserving.settings import Settings

log = logging.getLogger(__name__)


def find_folders(settings: Settings) -> Folders:
    """Return which folder holds what; raise ValueError for a file that is missing, broken or not served."""
    folders = on_disk.find(settings.model_dir, settings.checkpoint_dir)
    check(folders, allow_pickle=settings.allow_pickle)
    return folders


def read_config(settings: Settings, folders: Folders) -> PretrainedConfig:
    """Return the model's configuration; raise ValueError for a model that cannot be served here."""
    config = _config(folders.weights, settings)
    if config.is_encoder_decoder:
        raise ValueError(f"{folders.weights}: an encoder-decoder model; only models that continue text are served")
    actual = (getattr(config, "quantization_config", None) or {}).get("quant_method")
    if settings.quantization and actual != settings.quantization:
        raise ValueError(f"{folders.weights}: quantised by {actual}, not by {settings.quantization}")
    return config


def _config(folder: Path, settings: Settings) -> PretrainedConfig:
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=settings.trust_remote_code
        )
    except Exception as error:
        raise ValueError(f"{folder / CONFIG}: cannot be read: {type(error).__name__}: {error}") from error
    if name := getattr(config, "transformers_weights", None):  # it would be loaded instead of what was checked
        raise ValueError(
            f"{folder / CONFIG}: transformers_weights names {name}: weights are loaded from model.safetensors, or by "
            "its index: give the file that name, and take the field out"
        )
    return config


def pick_device(settings: Settings) -> torch.device:
    """Return the device to compute on; raise RuntimeError for a GPU that is asked for and not there."""
    if settings.device == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    device = torch.device(settings.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(f"device {device}: torch sees no GPU (driver, CUDA build of torch, or no GPU given?)")
    return device


def pick_dtype(settings: Settings, device: torch.device) -> str:
    """Return the type to compute in: half precision is slower on most CPUs."""
    return "float32" if settings.dtype == "auto" and device.type == "cpu" else settings.dtype


def load_model(settings: Settings, folders: Folders, config: PretrainedConfig) -> PreTrainedModel:
    """Return the model in memory, its adapter merged where that is the same, ready to continue text.

    Raises ValueError where what is loaded would not be what was trained.
    """
    torch.set_num_threads(settings.model_threads)  # Ray sets OMP_NUM_THREADS=1 in its actors
    device = pick_device(settings)
    for note in folders.notes:
        log.info("%s", note)

    def load() -> PreTrainedModel:
        model = load_whole(settings, folders, config, dtype=pick_dtype(settings, device))
        moved: PreTrainedModel = model.to(device).eval()
        return moved

    model = load() if folders.adapter is None else adapters.apply(load, folders, settings)
    log.info("loaded %s, adapter %s, on %s as %s", folders.weights, folders.adapter, device, model.dtype)
    return model.eval()


def load_whole(settings: Settings, folders: Folders, config: PretrainedConfig, **how: Any) -> PreTrainedModel:  # noqa: ANN401 - transformers' own
    """Return the whole weights of a model that continues text, without an adapter."""
    about = known(config.get_text_config().to_dict())
    return weights.load(_kind(config), folders.weights, config, about, settings, **how)


def _kind(config: PretrainedConfig) -> type[Any]:
    """Return the Auto class of a model that continues text, or of one that sees images too, and is asked for text."""
    sees = type(config) not in AutoModelForCausalLM._model_mapping and type(config) in (  # noqa: SLF001 - no other way
        AutoModelForImageTextToText._model_mapping  # noqa: SLF001
    )
    kind: type[Any] = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    return kind


def load_encoder(folder: Path, settings: Settings) -> PreTrainedModel:
    """Return an encoder for embeddings; raise ValueError for weights that are not whole."""
    moved: PreTrainedModel = load_whole_encoder(folder, settings).to(pick_device(settings)).eval()
    return moved


def load_whole_encoder(folder: Path, settings: Settings, **how: Any) -> PreTrainedModel:  # noqa: ANN401 - transformers' own
    """Return the whole weights of an encoder, where they were loaded to."""
    check_small_files(folder)
    check_weights(folder, allow_pickle=settings.allow_pickle)
    config = _config(folder, settings)
    about = known(config.get_text_config().to_dict(), encoder=True)
    return weights.load(AutoModel, folder, config, about, settings, **how)
