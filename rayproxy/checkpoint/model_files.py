"""A model's files where they are at hand: what the server would refuse at its start is refused before that.

The check is the model server's own (serving/llmserving/files), which needs nothing but Python's library.
"""

from __future__ import annotations

import sys
from importlib import import_module, util
from pathlib import Path
from types import ModuleType

from rayproxy.checkpoint.checkpoint import Checkpoint
from rayproxy.checkpoint.options import Options
from rayproxy.checkpoint.refusal import RefusedError

PACKAGE = "rayproxy._files"
INSTALLED = Path(__file__).resolve().parents[1] / "_files"  # where the wheel has it
CHECKED_OUT = Path(__file__).resolve().parents[2] / "serving" / "llmserving" / "files"


def refuse_broken(served: Checkpoint, options: Options, place: Path) -> None:
    """Raise RefusedError for files that the model server would not load.

    `place` is what `make model-context` laid out, or a folder in which the image's own paths lie: `/` is this machine.
    """
    folders, check = _module("folders"), _module("check")
    laid_out = (place / folders.MARK).is_file()
    base = place / ("base" if laid_out else served.base_model_dir.lstrip("/"))
    checkpoint = None
    if laid_out and not served.checkpoint_dir:
        raise RefusedError(
            f"--model-files: {place} holds a checkpoint, and the base model alone would be served: "
            "give --checkpoint-dir, which is /models/checkpoint in an image of Dockerfile.model"
        )
    if served.checkpoint_dir:
        checkpoint = place / ("checkpoint" if laid_out else served.checkpoint_dir.lstrip("/"))
    try:
        check.check(folders.find(base, checkpoint), allow_pickle=check.allows_pickle(options.env))
    except (ValueError, OSError) as error:
        raise RefusedError(f"--model-files: {error}") from error


def _module(name: str) -> ModuleType:
    if PACKAGE not in sys.modules:
        place = INSTALLED if INSTALLED.is_dir() else CHECKED_OUT
        found = util.spec_from_file_location(PACKAGE, place / "__init__.py", submodule_search_locations=[str(place)])
        if found is None or found.loader is None or not place.is_dir():
            raise RefusedError(f"--model-files: what checks them is not installed: {place} is not there")
        sys.modules[PACKAGE] = package = util.module_from_spec(found)
        found.loader.exec_module(package)
    return import_module(f"{PACKAGE}.{name}")
