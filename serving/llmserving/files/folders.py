"""Which folder holds the weights, the adapter and the tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ADAPTER_CONFIG = "adapter_config.json"
CONFIG = "config.json"
MARK = ".made-by-model-context"  # in a folder that tools/model_context.py laid out: `base` and `checkpoint` are in it
TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER_FILES = (TOKENIZER_CONFIG, "tokenizer.json", "tokenizer.model")
TEMPLATE = "chat_template.jinja"
PROCESSORS = "chat_template.json"  # of a model that sees images: its processor reads it, and no tokenizer does


@dataclass(frozen=True)
class Folders:
    """Where the weights, the adapter if there is one, and the tokenizers or chat templates are, likelier first."""

    weights: Path
    adapter: Path | None
    tokenizers: tuple[Path, ...]

    @property
    def tokenizer(self) -> Path:
        """Return the first folder that holds a tokenizer, which one that holds a chat template alone does not."""
        return next(filter(has_tokenizer, self.tokenizers), self.tokenizers[-1])

    @property
    def notes(self) -> list[str]:
        """Return what the log should say about the choice."""
        if not (self.weights / ADAPTER_CONFIG).is_file():
            return []
        once = f"{self.adapter} is applied to it, once" if self.adapter else "the adapter there is not applied"
        return [f"{self.weights} holds whole weights and an adapter: the weights are loaded alone; {once}"]


def find(base: Path | None, checkpoint: Path | None) -> Folders:
    """Return which folder holds what; raise ValueError with the name of what is missing."""
    if base is None or not (base / CONFIG).is_file():
        hint = _adapter_alone(base) or _elsewhere(base)
        raise ValueError(f"{base}: no config.json, so no model in Hugging Face's format{hint}")
    if checkpoint is None:
        return Folders(base, None, (base,))
    inner = _checkpoint(checkpoint)
    tokenizers = (inner, base) if has_tokenizer(inner) or _has_template(inner) else (base,)
    if (inner / ADAPTER_CONFIG).is_file():
        return Folders(base, inner, tokenizers)
    return Folders(inner, None, tokenizers)


def has_tokenizer(folder: Path) -> bool:
    """Return whether files of a tokenizer lie in a folder."""
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def _has_template(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (TEMPLATE, PROCESSORS))


def _checkpoint(folder: Path) -> Path:
    """Return the folder itself, or the one inside it: Ray Train reports a checkpoint as <folder>/checkpoint."""
    for candidate in (folder, folder / "checkpoint"):
        if any((candidate / name).is_file() for name in (ADAPTER_CONFIG, CONFIG)):
            return candidate
    raise ValueError(
        f"{folder}: neither adapter_config.json (LoRA) nor config.json (a full checkpoint){_elsewhere(folder)}"
    )


def _adapter_alone(base: Path | None) -> str:
    if base is None or not (base / ADAPTER_CONFIG).is_file():
        return ""
    return ": it is an adapter; name its base model as BASE_MODEL_DIR, and this folder as CHECKPOINT_DIR"


def _elsewhere(folder: Path | None) -> str:
    """Say which folder may be meant: a trainer's output has checkpoint-500, the hub's cache snapshots/COMMIT."""
    if folder is None:
        return ""
    if not folder.is_dir():
        return ": there is no such folder"
    names = (CONFIG, ADAPTER_CONFIG)
    inner = {
        path.parent for name in names for place in ("*", "snapshots/*") for path in folder.glob(f"{place}/{name}")
    }
    if not inner:
        return ""
    last = max(inner, key=lambda path: (len(path.name), path.name))  # checkpoint-1000 is later than checkpoint-500
    return f": one is in {last}: name that folder"
