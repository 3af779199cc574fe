"""Check a model, lay out the build context of Dockerfile.model, and print what to run.

    python tools/model_context.py --base-model FOLDER --checkpoint FOLDER [--output build/model]

What the server would refuse at its start is refused here, before an image is built: files that are broken or missing,
and, where the model server's environment is there (`make install-serving`), names and sizes that are not the model's.
The server's own variables count here too, such as SERVING_ALLOW_PICKLE. Large files are hard-linked where the file
system allows, so that a base model is not copied for each build.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import inference_zip

ROOT = Path(__file__).resolve().parents[1]
SERVING = ROOT / "serving"
sys.path.append(str(SERVING))

from llmserving.files import folders  # noqa: E402 - lies beside this folder
from llmserving.files.check import allows_pickle, check  # noqa: E402

PYTHON = ROOT / ".venv-serving" / "bin" / "python"
# No part of what is served. A trainer keeps twice the weights beside a model to go on training; what begins with a dot
# is other programs' (.git, with tokens and the weights once more, .env, .cache), and no model is read from it.
LEFT_OUT = shutil.ignore_patterns(
    ".*",
    *("optimizer*.pt", "optimizer*.bin", "scheduler.pt", "scaler.pt", "rng_state*.pth", "training_args.bin"),
    *("trainer_state.json", "global_step*", "checkpoint-[0-9]*", "runs", "wandb"),
)
NOT_CHECKED = 3  # see llmserving.loading.check


def main() -> int:
    """Read the arguments, check, lay out, print the command that builds the image."""
    parser = argparse.ArgumentParser(description="Check a model and lay out the build context of Dockerfile.model.")
    parser.add_argument("--base-model", type=folder, required=True, help="the base model's folder")
    parser.add_argument(
        "--checkpoint",
        type=folder,
        required=True,
        help="the fine-tuned checkpoint's: an adapter's, or a whole model's",
    )
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "model", help="default: %(default)s")
    given = parser.parse_args()
    try:
        for model in (given.base_model, given.checkpoint):
            refuse_strays(model.resolve())
        check_files(given.base_model, given.checkpoint)
        check_names(given.base_model, given.checkpoint)
        lay_out(given.base_model, given.checkpoint, given.output)
    except (OSError, ValueError) as error:
        print(f"model_context: {error}", file=sys.stderr)
        return 1
    print(f"docker build -f Dockerfile.model -t NAME:TAG {given.output}")
    return 0


def folder(text: str) -> Path:
    """Return a path; an empty one would be the folder that this happens to run in."""
    if not text:
        raise argparse.ArgumentTypeError(
            "make model-context BASE_MODEL=... CHECKPOINT=...; for a model that has no base, the same folder twice"
        )
    return Path(text)


def refuse_strays(folder: Path) -> None:
    """Raise ValueError for what lies in a folder, and would be in the image, and is no part of the model.

    The folder's own path has no links. The hub's cache is links to files in its repository's `blobs`: its own.
    """
    own = [folder]
    if folder.parent.name == "snapshots":
        own.append(folder.parents[1] / "blobs")
    for place, inner, files in os.walk(folder):
        left_out = LEFT_OUT(place, [*inner, *files])
        inner[:] = [name for name in inner if name not in left_out]
        for path in (Path(place, name) for name in inner):
            if path.is_symlink():
                raise ValueError(f"{path}: a link to a folder, {path.resolve()}: put the folder in its place")
        for path in (Path(place, name) for name in files if name not in left_out):
            real = path.resolve()
            if not any(real.is_relative_to(each) for each in own):
                raise ValueError(f"{path}: a link to {real}, which is not the model's: put the file in its place")
            if not path.is_file():
                raise ValueError(f"{path}: neither a file nor a folder, or a link to {real}, which is not there")


def check_files(base_model: Path, checkpoint: Path) -> None:
    """Raise ValueError for a file that is missing, broken or of a kind that is not served."""
    found = folders.find(base_model, checkpoint)
    for note in found.notes:
        print(f"model_context: {note}", file=sys.stderr)
    check(found, allow_pickle=allows_pickle(os.environ))


def check_names(base_model: Path, checkpoint: Path) -> None:
    """Raise ValueError for tensors that are not the model's; say so where this machine cannot tell."""
    if not PYTHON.exists():
        _say_unchecked("`make install-serving` brings what compares them")
        return
    paths = ["--model_dir", str(base_model), "--checkpoint_dir", str(checkpoint)]
    command = [str(PYTHON), "-m", "llmserving.loading.check", *paths]
    environment = {**os.environ, "PYTHONPATH": str(SERVING)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace", env=environment)
    said = done.stdout.strip() or f"what compares them ended with {done.returncode}: {done.stderr.strip()}"
    if done.returncode == NOT_CHECKED:
        _say_unchecked(said)
    elif done.returncode != 0:
        raise ValueError(said)


def _say_unchecked(why: str) -> None:
    print(f"model_context: the tensors' names and sizes are not compared with the model's: {why}", file=sys.stderr)


def lay_out(base_model: Path, checkpoint: Path, output: Path) -> None:
    """Fill `output` anew; raise ValueError for a folder that this program did not make, OSError for an unreadable one.

    What is there is removed only where this program made it, and where the model does not lie in it.
    """
    if output.exists() and not (output / folders.MARK).exists() and any(output.iterdir()):
        raise ValueError(f"{output} is there, and this program did not make it: name another --output, or remove it")
    for source in (base_model, checkpoint):
        if source.resolve().is_relative_to(output.resolve()):
            raise ValueError(f"{source} lies in {output}, which is made anew: name another --output")
        if output.resolve().is_relative_to(source.resolve()):
            raise ValueError(f"{output} lies in {source}, which would be copied into itself: name another --output")
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    (output / folders.MARK).touch()
    shutil.copytree(base_model, output / "base", copy_function=link, ignore=LEFT_OUT)
    shutil.copytree(checkpoint, output / "checkpoint", copy_function=link, ignore=LEFT_OUT)
    shutil.copy(ROOT / "requirements" / "serving.lock", output)
    shutil.copy(inference_zip.write(SERVING, ROOT / "build"), output / "inference.zip")


def link(source: str, target: str) -> None:
    """Hard-link a file, or copy it where that cannot be; a symbolic link is followed."""
    real = os.path.realpath(source)
    try:
        os.link(real, target)
    except OSError:
        shutil.copy2(real, target)


if __name__ == "__main__":
    sys.exit(main())
