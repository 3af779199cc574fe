"""Lay out the build context of Dockerfile.model: base model, checkpoint, code and lock, and print what to run.

    python tools/model_context.py --base-model FOLDER --checkpoint FOLDER [--output build/model]

Large files are hard-linked where the file system allows, so that a base model is not copied for each build.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

import inference_zip

ROOT = Path(__file__).resolve().parents[1]
MODEL = ("config.json",)  # a model that can be served by itself
CHECKPOINT = (*MODEL, "adapter_config.json")  # ... or a LoRA adapter of the base model


def main() -> int:
    """Read the arguments, lay out, print the command that builds the image."""
    parser = argparse.ArgumentParser(description="Lay out the build context of Dockerfile.model.")
    parser.add_argument("--base-model", type=Path, required=True, help="the base model's folder")
    parser.add_argument("--checkpoint", type=Path, required=True, help="the fine-tuned checkpoint's folder")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "model", help="default: %(default)s")
    given = parser.parse_args()
    try:
        lay_out(given.base_model, given.checkpoint, given.output)
    except (OSError, ValueError) as error:
        print(f"model_context: {error}", file=sys.stderr)
        return 1
    print(f"docker build -f Dockerfile.model -t NAME:TAG {given.output}")
    return 0


def lay_out(base_model: Path, checkpoint: Path, output: Path) -> None:
    """Fill `output` anew; raise ValueError for a folder that holds no model, OSError for one that cannot be read."""
    check(base_model, MODEL)
    check(checkpoint, CHECKPOINT)
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    shutil.copytree(base_model, output / "base", copy_function=link)
    shutil.copytree(checkpoint, output / "checkpoint", copy_function=link)
    shutil.copy(ROOT / "requirements" / "serving.lock", output)
    shutil.copy(inference_zip.write(ROOT / "serving", ROOT / "build"), output / "inference.zip")


def check(folder: Path, any_of: tuple[str, ...]) -> None:
    """Raise ValueError unless the folder, or `checkpoint` in it as Ray Train writes it, holds one of the files."""
    if not any((place / name).is_file() for place in (folder, folder / "checkpoint") for name in any_of):
        raise ValueError(f"{folder} holds no {' or '.join(any_of)}: name the folder that the weights lie in")


def link(source: str, target: str) -> None:
    """Hard-link a file, or copy it where that cannot be; a symbolic link is followed."""
    real = os.path.realpath(source)
    try:
        os.link(real, target)
    except OSError:
        shutil.copy2(real, target)


if __name__ == "__main__":
    sys.exit(main())
