"""All that the files of a model say without being loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from . import adapters, headers, weights
from .folders import CONFIG, TOKENIZER_FILES, Folders

SMALL_FILES = (CONFIG, "generation_config.json", *TOKENIZER_FILES)
_YES = frozenset({"1", "true", "yes", "on", "t", "y"})  # as the server's settings have it


def allows_pickle(environment: Mapping[str, str]) -> bool:
    """Tell whether a server with this environment would load pickles."""
    return environment.get("SERVING_ALLOW_PICKLE", "").lower() in _YES


def check(folders: Folders, *, allow_pickle: bool = False) -> None:
    """Raise ValueError for a file that is missing, broken or of a kind that is not served."""
    for folder in dict.fromkeys((folders.weights, *folders.tokenizers)):
        check_small_files(folder)
    check_weights(folders.weights, allow_pickle=allow_pickle)
    if folders.adapter is not None:
        try:
            adapters.read(folders.adapter)
        except FileNotFoundError as error:
            if not allow_pickle:
                raise ValueError(str(error)) from error


def check_weights(folder: Path, *, allow_pickle: bool = False) -> None:
    """Raise ValueError for weights that are missing or broken."""
    try:
        weights.read(folder)
    except FileNotFoundError as error:
        pickles = weights.files(folder) if allow_pickle else []
        if not pickles:
            raise ValueError(str(error)) from error
        for path in pickles:
            _check_start(path)


def check_small_files(folder: Path) -> None:
    """Raise ValueError for a configuration or a tokenizer that is none."""
    for name in SMALL_FILES:
        _check_start(folder / name)


def _check_start(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            headers.refuse_other_kinds(path, file.read(headers.LOOK))
