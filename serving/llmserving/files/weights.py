"""All tensors of a model's folder, by name, without loading one."""

from __future__ import annotations

import json
from pathlib import Path

from . import headers
from .headers import Shapes

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
NAMED = 4  # how many of many names a message shows


def files(folder: Path) -> list[Path]:
    """Return the files that a folder's weights are loaded from, of all that lie there: safetensors before pickles.

    Raises ValueError for an index that is broken, or names a file that is not there.
    """
    for name in (SINGLE, INDEX, *PICKLES):
        path = folder / name
        if path.is_file():
            return _shards(path, _placed(path)) if name.endswith(".json") else [path]
    return []


def read(folder: Path) -> Shapes:
    """Return the shape of each tensor of a folder; raise ValueError for a file that is missing or broken.

    Raises FileNotFoundError where the folder has no safetensors at all: the caller knows what else is taken.
    """
    if (folder / SINGLE).is_file():
        shapes = headers.read(folder / SINGLE)
    elif (folder / INDEX).is_file():
        shapes = _read_shards(folder / INDEX)
    else:
        raise FileNotFoundError(f"{folder}: no {SINGLE} and no {INDEX}{_what_is_there(folder)}")
    refuse_empty(folder, shapes)
    return shapes


def refuse_empty(folder: Path, shapes: Shapes) -> None:
    """Raise ValueError where there is no tensor, or where some have no numbers in them."""
    if not shapes:
        raise ValueError(
            f"{folder}: its safetensors file holds no tensor: what saved it had none at hand "
            "(a process of ZeRO-3 or FSDP that held no weights): save it again, gathered"
        )
    empty = sorted(name for name, shape in shapes.items() if 0 in shape)
    if empty:
        raise ValueError(
            f"{folder}: {len(empty)} of {len(shapes)} tensors are empty ({some(empty)}): DeepSpeed ZeRO-3 saved "
            "what one process held: save with stage3_gather_16bit_weights_on_model_save, or use zero_to_fp32.py"
        )


def some(names: list[str]) -> str:
    """Return the first few of many names."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _read_shards(index: Path) -> Shapes:
    placed = _placed(index)
    shapes = {name: shape for path in _shards(index, placed) for name, shape in headers.read(path).items()}
    lost = sorted(placed.keys() - shapes.keys())
    if lost:
        raise ValueError(
            f"{index.parent}: {index.name} names tensors that its files do not hold ({some(lost)}): files of two "
            "models are mixed"
        )
    return shapes


def _placed(index: Path) -> dict[str, str]:
    """Return which file holds which tensor."""
    try:
        placed: dict[str, str] = json.loads(index.read_bytes())["weight_map"]
        if not all(isinstance(name, str) for name in placed.values()):
            raise TypeError("the name of a file is none")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        headers.refuse_other_kinds(index, index.read_bytes()[: headers.LOOK])
        raise ValueError(f"{index}: does not say which file holds which tensor ({error})") from error
    return placed


def _shards(index: Path, placed: dict[str, str]) -> list[Path]:
    names = sorted(set(placed.values()))
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise ValueError(
            f"{index.parent}: {len(missing)} of the {len(names)} files that {index.name} names are not there "
            f"({some(missing)}): the copy or the download did not finish"
        )
    return [index.parent / name for name in names]


def _what_is_there(folder: Path) -> str:
    if any((folder / name).is_file() for name in PICKLES):
        return ": only pickles, which run code when they are read (SERVING_ALLOW_PICKLE=1 loads them)"
    found = sorted(path.name for path in folder.glob("*.safetensors"))
    return f" (but {some(found)}: half of a copy?)" if found else ": are the weights elsewhere?"
